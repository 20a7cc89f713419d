package registry

// set is a set that is nearly always of one or two members: it needs a map only where it is not.
type set[V comparable] struct {
	few  []V
	many map[V]struct{} // instead of few
}

// fewMembers is how many are looked through one by one.
const fewMembers = 8

func (s set[V]) size() int { return len(s.few) + len(s.many) }

// all calls fn for each member, in no particular order, until it returns false.
func (s set[V]) all(fn func(V) bool) {
	for _, v := range s.few {
		if !fn(v) {
			return
		}
	}
	for v := range s.many {
		if !fn(v) {
			return
		}
	}
}

func (s *set[V]) add(v V) {
	if s.many != nil {
		s.many[v] = struct{}{}
		return
	}
	for _, x := range s.few {
		if x == v {
			return
		}
	}
	if s.few = append(s.few, v); len(s.few) > fewMembers {
		s.many = make(map[V]struct{}, 2*len(s.few))
		for _, x := range s.few {
			s.many[x] = struct{}{}
		}
		s.few = nil
	}
}

func (s *set[V]) drop(v V) {
	delete(s.many, v)
	for i, x := range s.few {
		if x == v {
			s.few[i] = s.few[len(s.few)-1]
			s.few = s.few[:len(s.few)-1]
			return
		}
	}
}

func insert[K, V comparable](m map[K]set[V], k K, v V) {
	s := m[k]
	s.add(v)
	m[k] = s
}

func remove[K, V comparable](m map[K]set[V], k K, v V) {
	s := m[k]
	if s.drop(v); s.size() == 0 {
		delete(m, k)
		return
	}
	m[k] = s
}
