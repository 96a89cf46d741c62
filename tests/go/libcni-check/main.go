// Command libcni-check puts Slash32 in front of libcni, the library that container runtimes call plugins with.
//
// It is called by the Rust test suites. Each subcommand prints one line of JSON on stdout and exits with 0; or its last line on
// stderr, after what the plugins wrote there, is {"error": ..., "code": ..., "msg": ..., "details": ...} and it exits with 1.
// code, msg and details stand there where a plugin's own error document is the cause.
//
//	libcni-check convert VERSION < result
//	libcni-check run [flags] add|check|del|status|gc|version
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containernetworking/cni/pkg/types"
)

const usage = "usage: libcni-check convert VERSION < result | libcni-check run [flags] add|check|del|status|gc|version"

func main() {
	answer, err := dispatch(os.Args[1:], os.Stdin)
	if err == nil {
		err = printLine(os.Stdout, answer)
	}
	if err != nil {
		// Nothing is left to do where stderr is gone too: the exit code tells.
		_ = printLine(os.Stderr, describe(err))
		os.Exit(1)
	}
}

func printLine(out io.Writer, document any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(document)
}

func dispatch(args []string, stdin io.Reader) (any, error) {
	if len(args) == 0 {
		return nil, errors.New(usage)
	}
	switch args[0] {
	case "convert":
		return convert(args[1:], stdin)
	case "run":
		return run(args[1:])
	default:
		return nil, fmt.Errorf("unknown subcommand %q; %s", args[0], usage)
	}
}

// failure is the document on stderr.
type failure struct {
	Error   string `json:"error"`
	Code    *uint  `json:"code,omitempty"`
	Msg     string `json:"msg,omitempty"`
	Details string `json:"details,omitempty"`
}

func describe(err error) failure {
	described := failure{Error: err.Error()}
	var plugin *types.Error
	if errors.As(err, &plugin) {
		described.Code, described.Msg, described.Details = &plugin.Code, plugin.Msg, plugin.Details
	}
	return described
}
