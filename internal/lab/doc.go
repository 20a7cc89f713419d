// Package lab holds the other ends of Postern for demonstrations and tests: an [Exchange] on loopback that answers Exchange
// ActiveSync as Exchange Online or an Exchange server on premises does, and simulated phones ([Phone]) that enrol over SCEP
// (RFC 8894), set up mail profiles ([Mail]) and synchronise.
//
// Both speak for themselves: the phone's SCEP messages and the Exchange's answers are made here and not by the doors that they
// are to test. Nothing in it is fit for real mail: mailboxes live in memory and the signature of a bearer token is not checked.
package lab
