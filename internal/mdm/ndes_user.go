package mdm

import "strings"

// account is a Windows account name, in lower case: Windows does not tell the cases apart.
type account struct {
	name   string
	domain string // NetBIOS or DNS name; empty where none is said
}

// accountOf reads DOMAIN\user, user@domain and user; .\user is the machine's own, and so without a domain here.
func accountOf(s string) account {
	s = strings.ToLower(s)
	if domain, name, ok := strings.Cut(s, `\`); ok {
		return account{name, strings.TrimSuffix(domain, ".")}
	}
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		return account{s[:i], s[i+1:]}
	}
	return account{name: s}
}

// alike reports whether two names may mean the same account: no domain is any, and a NetBIOS name is taken for the first label of a DNS name, as it usually is.
func (a account) alike(b account) bool {
	if a.name != b.name || a.name == "" {
		return false
	}
	if a.domain == b.domain || a.domain == "" || b.domain == "" {
		return true
	}
	first, _, dns := strings.Cut(a.domain, ".")
	second, _, too := strings.Cut(b.domain, ".")
	return dns != too && first == second
}

// user returns the user who has this name and password. The name picks one user, by the very account or else as the only one who may be meant, and his password
// has to be right. All passwords are compared, so that the delay does not tell which names exist; cases and domains of names are no secret.
func (n *NDES) user(name, password string) (NDESUser, bool) {
	asked := accountOf(name)
	exact, alike, candidates := -1, -1, 0
	right := make([]bool, len(n.users))
	for i, u := range n.users {
		right[i] = !u.Password.IsZero() && equal(password, u.Password.reveal()) == 1
		switch is := accountOf(u.Name); {
		case is == asked && asked.name != "":
			exact = i
		case is.alike(asked):
			alike = i
			candidates++
		}
	}
	switch {
	case exact >= 0 && right[exact]:
		return n.users[exact], true
	case exact < 0 && candidates == 1 && right[alike]:
		return n.users[alike], true
	}
	return NDESUser{}, false
}
