package mdm

// Name is how the registry and the audit call this source of devices.
func (n *Intune) Name() string { return n.cfg.Name }

// ApprovesNames: Intune compares subject and alternative names with what its profile says (SubjectNameMismatch, SubjectAltNameMismatch).
func (n *Intune) ApprovesNames() bool { return true }

// ApprovesNames: the service says who it is, and its names are those.
func (h *Webhook) ApprovesNames() bool { return false }

// Name is how the registry and the audit call this source of devices.
func (h *Webhook) Name() string { return h.cfg.Name }
