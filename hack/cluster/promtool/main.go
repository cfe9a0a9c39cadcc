// The part of promtool that checks and tests rules.
//
// The whole of it brings the service discovery of every cloud along and takes three times as long to build. Its rule tests are one file of the same
// version, unittest.go, which hack/cluster/promtool.py lays beside this one; what that file calls of the rest is here.
package main

import (
	"fmt"
	"os"

	"github.com/prometheus/common/model"

	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/promqltest"
)

const (
	successExitCode = 0
	failureExitCode = 1
)

const usage = "usage: promtool check rules FILE... | promtool test rules FILE..."

func main() {
	//nolint:staticcheck // as promtool itself does
	model.NameValidationScheme = model.UTF8Validation
	if len(os.Args) < 4 || os.Args[2] != "rules" {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	files := os.Args[3:]
	switch os.Args[1] {
	case "check":
		os.Exit(checkRules(files))
	case "test":
		options := promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true}
		os.Exit(RulesUnitTest(options, nil, false, false, false, files...))
	default:
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
}

// checkRules says what Prometheus would refuse of each file.
func checkRules(files []string) int {
	code := successExitCode
	for _, file := range files {
		groups, problems := rulefmt.ParseFile(file, false)
		if len(problems) > 0 {
			code = failureExitCode
			for _, problem := range problems {
				fmt.Fprintf(os.Stderr, "%s: %s\n", file, problem)
			}
			continue
		}
		count := 0
		for _, group := range groups.Groups {
			count += len(group.Rules)
		}
		fmt.Printf("%s: %d rules found\n", file, count)
	}
	return code
}
