package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/envoy"
)

// versionInfo is what the binary knows of itself.
type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Time    string `json:"time,omitempty"`
	Go      string `json:"go"`
	// Envoy is the release it is built for and tested with.
	Envoy string `json:"envoy"`
}

func newVersionCommand(a *app) *cobra.Command {
	var output format
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
			return a.print(output, v, func(w io.Writer) {
				fmt.Fprintf(w, "sluice %s", v.Version)
				if v.Commit != "" {
					fmt.Fprintf(w, " (%s, %s)", v.Commit, v.Time)
				}
				fmt.Fprintf(w, "\n%s, for envoy %s\n", v.Go, v.Envoy)
			})
		},
	}
	addOutput(cmd, &output)
	return cmd
}

func readVersion() versionInfo {
	v := versionInfo{Version: "devel", Go: runtime.Version(), Envoy: envoy.Release}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			v.Commit = s.Value[:12]
		case s.Key == "vcs.time":
			v.Time = s.Value
		}
	}
	return v
}
