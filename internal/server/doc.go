// Package server reads the configuration and assembles the parts that it asks for: configuration, then parts, then listeners, then run until done.
//
// Roles come from configuration: a section that is absent starts nothing and opens no key.
package server
