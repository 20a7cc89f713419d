package api

import "postern/internal/trust"

// RunLifecycle asks for POST /lifecycle/run.
type RunLifecycle struct {
	DryRun bool `json:"dry_run"`
	All    bool `json:"all"` // carry out however many devices are concerned
}

// LifecycleRun answers POST /lifecycle/run.
type LifecycleRun struct {
	DryRun  bool           `json:"dry_run"`
	Policy  string         `json:"policy"` // digest
	Devices int            `json:"devices"`
	Notify  int            `json:"notify"`
	Suspend int            `json:"suspend"`
	Retire  int            `json:"retire"`
	Faults  int            `json:"faults"`  // devices about which the policy had no decision: they stay as they are
	Done    int            `json:"done"`    // suspended or retired
	Most    int            `json:"most"`    // how many may be without All
	Refused bool           `json:"refused"` // more than that: nothing was done
	Changes []DeviceChange `json:"changes"` // the first thousand
	Errors  []string       `json:"errors"`  // of changes that could not be made, the first twenty
}

// DeviceChange is what the policy wants done with one device.
type DeviceChange struct {
	Device  trust.DeviceID `json:"device"`
	Owner   string         `json:"owner"`
	Action  trust.Action   `json:"action"` // notify, suspend or retire
	Reasons []trust.Reason `json:"reasons"`
}
