// Program on etcd's own Go client: each suite uses one part of the client as its users do, and fails with a message.
//
//	keelson-go-client -endpoints http://127.0.0.1:2379[,...] [suite ...]
//
// The server must be empty. Suites run in the order of the list below; each keeps to keys of its own.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// A suite gets a client of all endpoints and panics with a message where an expectation fails.
type suite struct {
	name string
	run  func(ctx context.Context, client *clientv3.Client)
}

var suites = []suite{
	{"kv", suiteKV},
	{"txn", suiteTxn},
	{"stream", suiteStream},
	{"watch", suiteWatch},
	{"lease", suiteLease},
	{"concurrency", suiteConcurrency},
	{"namespace", suiteNamespace},
	{"mirror", suiteMirror},
	{"kubernetes", suiteKubernetes},
	{"leasing", suiteLeasing},
	{"ordering", suiteOrdering},
	{"cluster", suiteCluster},
	{"maintenance", suiteMaintenance},
	{"compaction", suiteCompaction},
	{"auth", suiteAuth},
}

// Features that the server is known to lack.
var lacking = map[string]bool{}

func main() {
	endpoints := flag.String("endpoints", "http://127.0.0.1:2379", "comma-separated endpoints")
	without := flag.String("without", "", "comma-separated features the server lacks: auth, snapshot")
	flag.Parse()
	for _, feature := range strings.Split(*without, ",") {
		lacking[feature] = true
	}
	wanted := map[string]bool{}
	for _, name := range flag.Args() {
		wanted[name] = true
	}
	failed := 0
	for _, suite := range suites {
		if (len(wanted) > 0 && !wanted[suite.name]) || lacking[suite.name] {
			continue
		}
		if err := runSuite(suite, strings.Split(*endpoints, ",")); err != nil {
			fmt.Printf("FAILED %s: %v\n", suite.name, err)
			failed++
			continue
		}
		fmt.Printf("ok %s\n", suite.name)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// failure is what check panics with; any other panic is a bug of this program and is not caught.
type failure struct{ text string }

func runSuite(suite suite, endpoints []string) (err error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	defer func() {
		switch caught := recover().(type) {
		case nil:
		case failure:
			err = fmt.Errorf("%s", caught.text)
		default:
			panic(caught)
		}
	}()
	suite.run(ctx, client)
	return nil
}

func fail(format string, arguments ...any) {
	panic(failure{fmt.Sprintf(format, arguments...)})
}

func check(err error) {
	if err != nil {
		fail("unexpected error: %v", err)
	}
}

func expect[T comparable](what string, got, want T) {
	if got != want {
		fail("%s is %v, not %v", what, got, want)
	}
}

func expectError(what string, got, want error) {
	if got == nil || got.Error() != want.Error() {
		fail("%s gives %v, not %v", what, got, want)
	}
}
