package ca

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxFile bounds every file that this package reads, in octets. An RSA 8192 key in PEM takes 7 KiB.
const maxFile = 64 << 10

// writeNew writes a file that is there whole or not at all, survives the death of the machine, and never replaces another: fs.ErrExist if there is one.
func writeNew(path string, data []byte, mode os.FileMode) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	if err := writeSynced(tmp, data, mode); err != nil {
		return err
	}
	// A hard link, unlike a rename, fails if the name is taken.
	if err := os.Link(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeSynced writes data to f, makes it durable and closes f.
func writeSynced(f *os.File, data []byte, mode os.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readFile reads a regular file of at most maxFile octets.
func readFile(path string) ([]byte, error) { return readChecked(path, 0) }

// readSecret is readFile for what only its owner may read.
func readSecret(path string) ([]byte, error) { return readChecked(path, 0o077) }

func readChecked(path string, refuse os.FileMode) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a regular file", path)
	case info.Mode().Perm()&refuse != 0:
		return nil, fmt.Errorf("%s: mode %04o lets others than its owner use it; run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: larger than %d octets", path, maxFile)
	}
	return data, err
}
