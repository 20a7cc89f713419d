package api

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"time"
)

func TestRecordedFrames(t *testing.T) {
	all := []Recorded{
		{Door: "edge", Reference: "ABC", At: time.Unix(1780315200, 0).UTC(), Action: "deny", Codes: []string{"a", "b"}, Policy: "0011", User: "alice@contoso.com",
			Device: "dev-1", Command: "sync", Input: []byte("{}")},
		{At: time.Unix(0, 0).UTC(), Input: []byte{}},
	}
	var b []byte
	for _, r := range all {
		b = AppendRecorded(b, r)
	}
	for cut := range len(b) {
		r := bufio.NewReader(bytes.NewReader(b[:cut]))
		for {
			_, err := ReadRecorded(r)
			if errors.Is(err, io.EOF) && !errors.Is(err, errTruncated) {
				t.Fatalf("a stream cut after %d bytes is whole", cut)
			}
			if err != nil {
				break
			}
		}
	}
	r := bufio.NewReader(bytes.NewReader(append(b, 0)))
	for _, want := range all {
		got, err := ReadRecorded(r)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
	}
	if _, err := ReadRecorded(r); err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
}

func FuzzReadRecorded(f *testing.F) {
	f.Add(AppendRecorded(nil, Recorded{Door: "edge", Codes: []string{"a"}, Input: []byte("{}")}))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		r := bufio.NewReader(bytes.NewReader(raw))
		for {
			if _, err := ReadRecorded(r); err != nil {
				return
			}
		}
	})
}
