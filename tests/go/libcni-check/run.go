package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// settings are the flags of run.
type settings struct {
	conf, bin, cacheDir string
	cniVersion          string
	capabilityArgs      string
	cniArgs             string
	gcList              string
	valid               attachments
	timeout             time.Duration
	runtime             libcni.RuntimeConf
}

// outcome is the answer to a verb that succeeded.
type outcome struct {
	Action string `json:"action"`
	// Version is the one in which the plugins were called.
	Version string `json:"version"`
	// Result is that of add, as 1.1.0, whatever version it was answered in.
	Result *types100.Result `json:"result,omitempty"`
	// Answered is the same in the version in which it was answered.
	Answered types.Result `json:"answered,omitempty"`
	// Capabilities are those of the plugins in the list, and Plugins what they say to VERSION.
	Capabilities []string            `json:"capabilities,omitempty"`
	Plugins      map[string][]string `json:"plugins,omitempty"`
}

// run calls one verb on a conflist as a container runtime does.
func run(args []string) (any, error) {
	chosen, action, err := parse(args)
	if err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	list, err := libcni.NetworkConfFromFile(chosen.conf)
	if err != nil {
		return nil, fmt.Errorf("run: load %s: %w", chosen.conf, err)
	}
	if chosen.cniVersion != "" {
		list.CNIVersion = chosen.cniVersion
	}
	ctx, cancel := context.WithTimeout(context.Background(), chosen.timeout)
	defer cancel()
	answer := &outcome{Action: action, Version: list.CNIVersion}
	cni := libcni.NewCNIConfigWithCacheDir(filepath.SplitList(chosen.bin), chosen.cacheDir, nil)
	if err := chosen.call(ctx, cni, list, answer); err != nil {
		return nil, fmt.Errorf("run: %s of network %s: %w", action, list.Name, err)
	}
	return answer, nil
}

func (s *settings) call(ctx context.Context, cni *libcni.CNIConfig, list *libcni.NetworkConfigList, answer *outcome) error {
	switch answer.Action {
	case "add":
		result, err := cni.AddNetworkList(ctx, list, &s.runtime)
		if err != nil {
			return err
		}
		answer.Answered = result
		answer.Result, err = types100.NewResultFromResult(result)
		return err
	case "check":
		return cni.CheckNetworkList(ctx, list, &s.runtime)
	case "del":
		return cni.DelNetworkList(ctx, list, &s.runtime)
	case "status":
		return cni.GetStatusNetworkList(ctx, list)
	case "gc":
		return cni.GCNetworkList(ctx, list, s.gcArgs())
	case "version":
		return validate(ctx, cni, list, answer)
	default:
		return fmt.Errorf("unknown verb; %s", usage)
	}
}

// validate asks for the versions as a runtime does on loading a conflist, and tells what each plugin answered.
func validate(ctx context.Context, cni *libcni.CNIConfig, list *libcni.NetworkConfigList, answer *outcome) error {
	capabilities, err := cni.ValidateNetworkList(ctx, list)
	if err != nil {
		return err
	}
	slices.Sort(capabilities)
	answer.Capabilities = capabilities
	answer.Plugins = map[string][]string{}
	for _, plugin := range list.Plugins {
		info, err := cni.GetVersionInfo(ctx, plugin.Network.Type)
		if err != nil {
			return err
		}
		answer.Plugins[plugin.Network.Type] = info.SupportedVersions()
	}
	return nil
}

// gcArgs shapes the list as callers in the field do: cri-o's is null where no pod is left, cnitool sends no key.
func (s *settings) gcArgs() *libcni.GCArgs {
	switch s.gcList {
	case "absent":
		return nil
	case "null":
		return &libcni.GCArgs{}
	default:
		return &libcni.GCArgs{ValidAttachments: s.valid}
	}
}

func parse(args []string) (*settings, string, error) {
	s := &settings{valid: attachments{}}
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	flags.StringVar(&s.conf, "conf", "", "the conflist's `file`")
	flags.StringVar(&s.bin, "bin", "", "folders of plugins, joined by ':'")
	flags.StringVar(&s.cacheDir, "cachedir", "", "the folder in which libcni keeps results")
	flags.StringVar(&s.cniVersion, "cni-version", "", "call plugins in this version, not in the one that libcni chooses from the conflist")
	flags.StringVar(&s.runtime.NetNS, "netns", "", "the namespace's path")
	flags.StringVar(&s.runtime.ContainerID, "containerid", "", "the container's ID")
	flags.StringVar(&s.runtime.IfName, "ifname", "eth0", "the link's name in the namespace")
	flags.StringVar(&s.capabilityArgs, "capability-args", "", "a JSON `object` of capability arguments")
	flags.StringVar(&s.cniArgs, "args", "", "CNI_ARGS, K=V pairs joined by ';'")
	flags.Var(&s.valid, "valid", "gc: a valid attachment, `CONTAINERID/IFNAME`; may be given again")
	flags.StringVar(&s.gcList, "gc-list", "list", "gc: how to send the valid attachments: list, null or absent")
	flags.DurationVar(&s.timeout, "timeout", time.Minute, "kill the plugin after this time")
	if err := flags.Parse(args); err != nil {
		return nil, "", err
	}
	if flags.NArg() != 1 {
		return nil, "", fmt.Errorf("wanted one verb after the flags, got %q; %s", flags.Args(), usage)
	}
	return s, flags.Arg(0), s.complete()
}

// complete checks what the flags cannot and reads those that hold more than a word.
func (s *settings) complete() error {
	if s.conf == "" || s.bin == "" || s.cacheDir == "" {
		return errors.New("--conf, --bin and --cachedir must be given")
	}
	if !slices.Contains([]string{"list", "null", "absent"}, s.gcList) {
		return fmt.Errorf("--gc-list %q: wanted list, null or absent", s.gcList)
	}
	if s.gcList != "list" && len(s.valid) > 0 {
		return fmt.Errorf("--gc-list %s and --valid exclude each other", s.gcList)
	}
	if s.capabilityArgs != "" {
		if err := json.Unmarshal([]byte(s.capabilityArgs), &s.runtime.CapabilityArgs); err != nil {
			return fmt.Errorf("--capability-args %s: %w", s.capabilityArgs, err)
		}
	}
	for pair := range strings.SplitSeq(s.cniArgs, ";") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			s.runtime.Args = append(s.runtime.Args, [2]string{key, value})
		} else if pair != "" {
			return fmt.Errorf("--args: pair %q without '='", pair)
		}
	}
	return os.MkdirAll(s.cacheDir, 0o700)
}

// attachments is the value of --valid.
type attachments []types.GCAttachment

func (a *attachments) String() string { return fmt.Sprint(*a) }

func (a *attachments) Set(text string) error {
	id, ifname, ok := strings.Cut(text, "/")
	if !ok || id == "" || ifname == "" {
		return fmt.Errorf("%q: wanted CONTAINERID/IFNAME", text)
	}
	*a = append(*a, types.GCAttachment{ContainerID: id, IfName: ifname})
	return nil
}
