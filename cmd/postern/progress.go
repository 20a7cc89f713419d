package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress shows how far a long command is, on standard error: a bar where that is a terminal, and a line now and then where it is not.
type progress struct {
	w        io.Writer
	terminal bool
	total    int // 0 where nobody knows
	what     string
	now      func() time.Time
	shown    time.Time
	width    int // of the line on the terminal
}

const (
	barWidth  = 30
	barEvery  = 100 * time.Millisecond
	lineEvery = time.Second
)

// newProgress begins one. what is said of the things counted, for example "targets".
func newProgress(w io.Writer, total int, what string) *progress {
	p := &progress{w: w, total: total, what: what, now: time.Now}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// at says that done of the total are done; note says what came of them. It shows that at most every so often, and always at the end.
func (p *progress) at(done int, note string) {
	now, every := p.now(), lineEvery
	if p.terminal {
		every = barEvery
	}
	if (done < p.total || p.total == 0) && now.Sub(p.shown) < every {
		return
	}
	p.shown = now
	line := fmt.Sprintf("%d %s: %s", done, p.what, note)
	if p.total > 0 {
		line = fmt.Sprintf("%d of %d %s: %s", done, p.total, p.what, note)
	}
	if !p.terminal {
		fmt.Fprintln(p.w, line)
		return
	}
	if p.total > 0 {
		filled := barWidth * done / p.total
		line = fmt.Sprintf("[%s%s] %s", strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled), line)
	}
	fmt.Fprintf(p.w, "\r%-*s", p.width, line)
	p.width = len(line)
}

// end leaves the line of the bar.
func (p *progress) end() {
	if p.terminal && p.width > 0 {
		fmt.Fprintln(p.w)
	}
}
