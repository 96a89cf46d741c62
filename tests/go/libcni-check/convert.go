package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
)

// versions are all versions of the specification, oldest first.
var versions = []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// conversion is what libcni makes of a result.
type conversion struct {
	// Version is the version that the document says it has.
	Version string `json:"version"`
	// Lossless: libcni's type, written again, is the document that was read. Otherwise some key is not libcni's.
	Lossless bool `json:"lossless"`
	// Converted is the result in every version into which libcni converts it.
	Converted map[string]types.Result `json:"converted"`
	// Back is each of those converted back into Version.
	Back map[string]types.Result `json:"back"`
	// Impossible is why there is no conversion to (or back from) the other versions.
	Impossible map[string]string `json:"impossible"`
}

// convert reads a result of the version in args and has it converted to all others and back.
func convert(args []string, stdin io.Reader) (any, error) {
	if len(args) != 1 {
		return nil, fmt.Errorf("convert: wanted the result's version; %s", usage)
	}
	version := args[0]
	document, err := io.ReadAll(stdin)
	if err != nil {
		return nil, fmt.Errorf("convert: read stdin: %w", err)
	}
	result, err := create.Create(version, document)
	if err != nil {
		return nil, fmt.Errorf("convert: parse as result of version %q: %w", version, err)
	}
	if result.Version() != version {
		return nil, fmt.Errorf("convert: wanted a result of version %q, it says %q", version, result.Version())
	}
	lossless, err := isLossless(document, result)
	if err != nil {
		return nil, fmt.Errorf("convert: write the result again: %w", err)
	}
	answer := conversion{
		Version:    version,
		Lossless:   lossless,
		Converted:  map[string]types.Result{},
		Back:       map[string]types.Result{},
		Impossible: map[string]string{},
	}
	for _, other := range versions {
		answer.add(result, other)
	}
	return answer, nil
}

func (c *conversion) add(result types.Result, other string) {
	converted, err := result.GetAsVersion(other)
	if err != nil {
		c.Impossible[other] = err.Error()
		return
	}
	c.Converted[other] = converted
	back, err := converted.GetAsVersion(c.Version)
	if err != nil {
		c.Impossible[other] = "back: " + err.Error()
		return
	}
	c.Back[other] = back
}

// isLossless compares as JSON values. An empty dns does not count: libcni's older types write one always.
func isLossless(document []byte, result types.Result) (bool, error) {
	var written bytes.Buffer
	if err := result.PrintTo(&written); err != nil {
		return false, err
	}
	var before, after map[string]any
	if err := json.Unmarshal(document, &before); err != nil {
		return false, err
	}
	if err := json.Unmarshal(written.Bytes(), &after); err != nil {
		return false, err
	}
	if dns, ok := after["dns"].(map[string]any); ok && len(dns) == 0 {
		delete(after, "dns")
	}
	return reflect.DeepEqual(before, after), nil
}
