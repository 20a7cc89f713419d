package eas

import (
	"strings"
	"testing"
)

func clients(t testing.TB) *Clients {
	t.Helper()
	c, err := NewClients()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (row clientRow) wants() Client {
	e := row.Example
	return Client{Family: row.Family, Platform: row.Platform, Model: e.Model, Build: e.Build, Version: e.Version}
}

func TestEveryRowByItsExample(t *testing.T) {
	c := clients(t)
	for i, row := range c.rows {
		if got := c.Parse(row.Example.UserAgent, row.Example.DeviceType); got != row.wants() {
			t.Errorf("row %d, %q: %+v, want %+v", i+1, row.Example.UserAgent, got, row.wants())
		}
	}
}

// The rows are ordered: read backwards, the table takes some clients for others.
func TestOrderOfRowsMatters(t *testing.T) {
	c := clients(t)
	backwards := &Clients{}
	for i := range c.rows {
		backwards.rows = append(backwards.rows, c.rows[len(c.rows)-1-i])
	}
	for _, agent := range []string{"Apple-iPhone15C4/2401.539000006", "Apple-iPad4C5/1206.69", "iOS/10.2.1 (14D27) dataaccessd/1.0"} {
		if right, wrong := c.Parse(agent, ""), backwards.Parse(agent, ""); right == wrong {
			t.Errorf("%s is %+v in either order", agent, right)
		}
	}
}

func TestAppleBuilds(t *testing.T) {
	c := clients(t)
	for agent, want := range map[string]Client{
		"Apple-iPhone15C4/2401.539000006": {"apple_mail", "ios", "iPhone15,4", "24A5390f", "27"},
		"Apple-iPad4C5/1206.69":           {"apple_mail", "ios", "iPad4,5", "12F69", "8"},
		"Apple-iPad4C2/1404.27":           {"apple_mail", "ios", "iPad4,2", "14D27", "10"},
		"Apple-iPod5C1/1102.55400001":     {"apple_mail", "ios", "iPod5,1", "11B554a", "7"},
		"Apple-iPhone11C8/1804.70":        {"apple_mail", "ios", "iPhone11,8", "18D70", "14"},
		"Apple-iPhone17C1/2301.355":       {"apple_mail", "ios", "iPhone17,1", "23A355", "26"},
	} {
		if got := c.Parse(agent, "iPhone"); got != want {
			t.Errorf("%s: %+v, want %+v", agent, got, want)
		}
	}
}

func TestOtherClients(t *testing.T) {
	other := Client{Family: FamilyOther, Platform: PlatformUnknown}
	c := clients(t)
	for _, agent := range []string{
		"", " Apple-iPhone15C4/2401.5", "apple-iphone15c4/2401.5", "Mozilla/5.0 (iPhone; Outlook-iOS/2.0)", "xOutlook-iOS-Android/1.0",
		"Apple-iPhone/2401.5", "Apple-iPhone15C4", "Apple-iPhone15C4/2401", "Apple-iPhone15C4/2499.5", "Apple-iPhone15C4/2400.5",
		"Apple-iPhone15C4/2401.53900099", "Apple-iPhone15,4/2401.5", "Apple-15C4/2401.5", "Apple-iPhone15C4x/2401.5", "Apple-",
		"Preferences/2027.0.6.101 Darwin/27.0.0", "Preferences/2027 xCFNetwork/3892",
		"Outlook-iOS/2.0" + strings.Repeat("x", MaxUserAgent),
	} {
		if got := c.Parse(agent, "iPhone"); got != other {
			t.Errorf("%.40q: %+v", agent, got)
		}
	}
	if got := c.Parse("Outlook-iOS-Android/1.0", "iPhone"); got.Platform != PlatformUnknown {
		t.Errorf("Outlook for both systems is of %s", got.Platform)
	}
}

func TestClientTableIsStrict(t *testing.T) {
	row := func(s string) string { return `{"rows":[` + s + `]}` }
	good := `{"family":"a","platform":"ios","prefix":"A","read":"none"}`
	if _, err := loadClients([]byte(row(good))); err != nil {
		t.Fatal(err)
	}
	for name, table := range map[string]string{
		"empty":            "",
		"no rows":          row(""),
		"unknown key":      row(`{"family":"a","platform":"ios","prefix":"A","read":"none","x":1}`),
		"two documents":    row(good) + row(good),
		"no family":        row(`{"platform":"ios","prefix":"A","read":"none"}`),
		"family other":     row(`{"family":"other","platform":"ios","prefix":"A","read":"none"}`),
		"no condition":     row(`{"family":"a","platform":"ios","read":"none"}`),
		"unknown platform": row(`{"family":"a","platform":"amiga","prefix":"A","read":"none"}`),
		"unknown reader":   row(`{"family":"a","platform":"ios","prefix":"A","read":"tea leaves"}`),
		"never reached":    row(good + `,{"family":"b","platform":"ios","prefix":"AB","read":"none"}`),
	} {
		if _, err := loadClients([]byte(table)); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
}
