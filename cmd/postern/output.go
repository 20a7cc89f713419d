package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// printJSON writes v for programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table writes rows for people. Cells hold what devices and administrators wrote, so control characters are shown, not sent to the terminal.
func table(w io.Writer, header []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			row[i] = printable(cell)
		}
		if _, err := fmt.Fprintln(t, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return t.Flush()
}

// printable shows control characters as escapes.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }) {
		return strings.Trim(strconv.Quote(s), `"`)
	}
	return s
}

// stamp renders a time for people; the zero time is a dash.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// plural is so many of something: "1 user", "2 users".
func plural[N int | uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// dash renders an empty cell.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// call asks the running server and prints the answer: as JSON, or for people by human.
func call[Out any](a *app, c *cobra.Command, method, path string, query url.Values, in any, human func(io.Writer, Out) error) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	var out Out
	if err := client.Call(c.Context(), method, path, query, in, &out); err != nil {
		return err
	}
	if a.json {
		return printJSON(c.OutOrStdout(), out)
	}
	return human(c.OutOrStdout(), out)
}

// get is call for everything that only looks.
func get[Out any](a *app, c *cobra.Command, path string, query url.Values, human func(io.Writer, Out) error) error {
	return call(a, c, http.MethodGet, path, query, nil, human)
}

// filters builds a query of the flags that were given.
func filters(c *cobra.Command, names ...string) url.Values {
	q := url.Values{}
	for _, n := range names {
		if f := c.Flag(n); f != nil && f.Changed {
			q.Set(strings.ReplaceAll(n, "-", "_"), f.Value.String())
		}
	}
	return q
}

// listFlags adds the flags that every list has.
func listFlags(c *cobra.Command, cursor, what string) {
	c.Flags().Int("limit", 100, "entries to a page, 1 to 1000")
	c.Flags().String(cursor, "", what)
}
