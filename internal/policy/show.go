package policy

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// show writes a fact for people, in a form: |time (Unix seconds as a date), |span (seconds as days or hours), |version (17005001 as 17.5.1), |eas (161 as
// 16.1), |os (the name of a platform), |id (ID where it is not known: the place of an argument of a command).
func show(value, form string) string {
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case form == "|id" && value == "":
		return "ID"
	case form == "|os":
		return platformName(value)
	case value == "":
		return "none"
	case form == "|time" && err == nil && n == 0:
		return "an unknown time"
	case form == "|time" && err == nil:
		return time.Unix(n, 0).UTC().Format("2006-01-02 15:04 MST")
	case form == "|span" && err == nil:
		return span(n)
	case form == "|version" && err == nil:
		return fmt.Sprintf("%d.%d.%d", n/1e6, n/1000%1000, n%1000)
	case form == "|eas" && err == nil:
		return fmt.Sprintf("%d.%d", n/10, n%10)
	}
	return value
}

// formOf is the form in which a fact is shown by its name.
func formOf(fact string) string {
	_, last, _ := strings.Cut(fact, ".")
	switch {
	case last == "supersede_grace", last == "noncompliant_grace", last == "max_silence", last == "silent_for", last == "duplicate_window", last == "renewal_window", last == "silent_after", last == "unused_after", last == "no_mail_after":
		return "|span"
	case fact == "request.version", last == "min_eas_version":
		return "|eas"
	case last == "os_number", fact == "os.minimum", fact == "os.version":
		return "|version"
	case last == "not_after", last == "not_before", last == "until", strings.HasSuffix(last, "_at"), strings.HasSuffix(last, "_since"),
		strings.HasSuffix(last, "_seen"), strings.HasSuffix(last, "_first_use"):
		return "|time"
	}
	return ""
}

// FactText returns the value of a fact of a reason for people: times as dates, periods in days, versions with dots.
func FactText(name, value string) string { return show(value, formOf(name)) }

func platformName(platform string) string {
	switch strings.ToLower(platform) {
	case "":
		return "an unknown system"
	case "ios":
		return "iOS"
	case "ipados":
		return "iPadOS"
	case "macos":
		return "macOS"
	case "android":
		return "Android"
	case "windows":
		return "Windows"
	}
	return platform
}

// span writes seconds in the largest unit that fits at least twice.
func span(seconds int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"days", 86400}, {"hours", 3600}, {"minutes", 60}} {
		if seconds >= 2*u.size {
			return strconv.FormatInt(seconds/u.size, 10) + " " + u.name
		}
	}
	return strconv.FormatInt(seconds, 10) + " seconds"
}
