package mdm

// Name is how the registry and the audit call this source of devices.
func (n *Intune) Name() string { return n.cfg.Name }

// Name is how the registry and the audit call this source of devices.
func (h *Webhook) Name() string { return h.cfg.Name }
