package decisionlog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
)

// Defaults of the file.
const (
	defaultSize = 100 << 20
	defaultKeep = 5
)

// file is a log of lines that is rotated: FILE.1 is the newest of the old ones.
type file struct {
	path string
	max  int64
	keep int

	f    *os.File // nil: to be opened again
	w    *bufio.Writer
	size int64
}

func openFile(path string, size int64, keep int) (*file, error) {
	if size <= 0 {
		size = defaultSize
	}
	if keep <= 0 {
		keep = defaultKeep
	}
	f := &file{path: path, max: size, keep: keep}
	return f, f.open()
}

// open continues the file. A last line that a crash has cut off is ended, so that it spoils no other.
func (f *file) open() error {
	opened, err := os.OpenFile(f.path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := opened.Stat()
	if err != nil {
		return errors.Join(err, opened.Close())
	}
	f.f, f.w, f.size = opened, bufio.NewWriterSize(opened, 64<<10), info.Size()
	last := make([]byte, 1)
	if f.size > 0 {
		if _, err := opened.ReadAt(last, f.size-1); err == nil && last[0] != '\n' {
			f.size++
			return f.w.WriteByte('\n')
		}
	}
	return nil
}

// write appends a line. After an error the file is opened anew with the next one.
func (f *file) write(line []byte) error {
	if f.f != nil && f.size > 0 && f.size+int64(len(line))+1 > f.max {
		if err := f.rotate(); err != nil {
			return err
		}
	}
	if f.f == nil {
		if err := f.open(); err != nil {
			return err
		}
	}
	_, err := f.w.Write(line)
	if err == nil {
		err = f.w.WriteByte('\n')
	}
	if err != nil {
		return errors.Join(err, f.drop())
	}
	f.size += int64(len(line)) + 1
	return nil
}

// rotate moves the files on; the oldest goes.
func (f *file) rotate() error {
	if err := f.close(); err != nil {
		return err
	}
	for n := f.keep; n > 1; n-- {
		if err := os.Rename(fmt.Sprintf("%s.%d", f.path, n-1), fmt.Sprintf("%s.%d", f.path, n)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.Rename(f.path, f.path+".1")
}

func (f *file) flush() error {
	if f.f == nil {
		return f.open()
	}
	if err := f.w.Flush(); err != nil {
		return errors.Join(err, f.drop())
	}
	return nil
}

// drop forgets the file with what is in its buffer.
func (f *file) drop() error {
	f.w.Reset(io.Discard)
	opened := f.f
	f.f = nil
	return opened.Close()
}

func (f *file) close() error {
	if f.f == nil {
		return nil
	}
	err := f.w.Flush()
	return errors.Join(err, f.drop())
}
