package plan

import (
	"context"
	"errors"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/ir"
	"github.com/open-policy-agent/opa/v1/rego"
)

// targetName is the name under which OPA hands plans to this package.
const targetName = "postern-plan"

// OPA's planner is reached by an extension point of OPA only. OPA reads its table of targets without a lock, so this has to be in it before anything runs.
var _ = register()

func register() bool {
	rego.RegisterPlugin(targetName, target{})
	return true
}

// target hands the plan to whoever asked for it, by the context.
type target struct{}

type receiverKey struct{}

func (target) IsTarget(name string) bool { return name == targetName }

func (target) PrepareForEval(ctx context.Context, policy *ir.Policy, _ ...rego.PrepareOption) (rego.TargetPluginEval, error) {
	to, ok := ctx.Value(receiverKey{}).(**ir.Policy)
	if !ok {
		return nil, errors.New("nobody asked for the plan")
	}
	*to = policy
	return nil, nil //nolint:nilnil // it is not evaluated by package rego
}

// planned returns the plan of a question to a policy that was compiled for OPA's own evaluator.
func planned(ctx context.Context, c *ast.Compiler, query string) (*ir.Policy, error) {
	var policy *ir.Policy
	defer c.WithEvalMode(ast.EvalModeTopdown) // which package rego changes
	_, err := rego.New(rego.Query(query), rego.Compiler(c), rego.Target(targetName)).PrepareForEval(context.WithValue(ctx, receiverKey{}, &policy))
	if err != nil {
		return nil, err
	}
	if policy == nil || len(policy.Plans.Plans) != 1 {
		return nil, errors.New("not one plan")
	}
	return policy, nil
}
