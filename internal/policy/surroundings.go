package policy

import "maps"

// surroundings are the facts about a request that a policy's own data says: in which networks and countries its address is, and in which groups its owner.
type surroundings struct {
	zones  *zones
	groups map[string]map[string]bool // by name of a user: the groups; never changed
}

// groupsOf returns the groups of an owner, who is in a group under whichever of his names it lists.
func (s *surroundings) groupsOf(o *OwnerFacts) (in map[string]bool) {
	if len(s.groups) == 0 {
		return nil
	}
	for name := range o.Names {
		more := s.groups[name]
		switch {
		case len(more) == 0:
		case in == nil:
			in = more
		default:
			in = maps.Clone(in)
			maps.Copy(in, more)
		}
	}
	return in
}

// Surround fills in the facts that the policy's data says: request.zones and owner.groups. A decision always sees those of the policy that decides,
// whatever an input holds; this is for who records the input.
func (e *Engine) Surround(in *AccessInput) {
	in.Request.Zones, in.Owner.Groups = e.around.zones.of(in.Request.SourceIP), e.around.groupsOf(&in.Owner)
}

// surrounded returns the input with the facts that the policy's data says. It is the same one where they are those that it has: inputs are shared.
func (e *Engine) surrounded(in *AccessInput) *AccessInput {
	if in == nil || e.around.zones == nil || len(e.around.zones.from) == 0 && len(e.around.groups) == 0 && len(in.Request.Zones) == 0 && len(in.Owner.Groups) == 0 {
		return in
	}
	out := *in
	e.Surround(&out)
	return &out
}

// surroundedEnrol is surrounded for enrolments, of which the groups of the owner are told.
func (e *Engine) surroundedEnrol(in *EnrollInput) *EnrollInput {
	if len(e.around.groups) == 0 && len(in.Owner.Groups) == 0 {
		return in
	}
	out := *in
	out.Owner.Groups = e.around.groupsOf(&in.Owner)
	return &out
}
