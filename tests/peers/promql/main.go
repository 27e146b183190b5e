// Evaluates Prometheus rules and dashboard queries over recorded scrapes, with Prometheus' own engine.
//
//	promql RULES.yaml QUERIES.txt SCRAPES
//
// SCRAPES is a folder with files NUMBER-INSTANCE.prom in the text format; the scrape with number n is taken to be of
// minute n. Every instance gets the labels a scrape adds (job, instance, cluster) and the series `up`.
//
// Prints one line per rule or query, fields separated by tabs: its name; how many of the series selectors in it found
// something, as found/all; how many series its left side has, where it compares with a threshold; how many series the
// whole has, which for a rule means that it fires. An expression that does not parse, or fails, ends the program.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb"
	"gopkg.in/yaml.v3"
)

type rules struct {
	Groups []struct {
		Rules []struct {
			Alert  string            `yaml:"alert"`
			Expr   string            `yaml:"expr"`
			For    string            `yaml:"for"`
			Labels map[string]string `yaml:"labels"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

type query struct{ name, expr string }

func main() {
	if len(os.Args) != 4 {
		fail(errors.New("usage: promql RULES.yaml QUERIES.txt SCRAPES"))
	}
	queries, err := read(os.Args[1], os.Args[2])
	fail(err)
	folder, err := os.MkdirTemp("", "promql-")
	fail(err)
	defer os.RemoveAll(folder)
	db, err := tsdb.Open(folder, slog.New(slog.DiscardHandler), nil, tsdb.DefaultOptions(), nil)
	fail(err)
	defer db.Close()
	begin := time.Now().Add(-24 * time.Hour).Truncate(time.Minute)
	end, err := load(db, os.Args[3], begin)
	fail(err)

	parse := parser.NewParser(parser.Options{})
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 10_000_000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: parse,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
	})
	count := func(expr string) (int, error) {
		q, err := engine.NewInstantQuery(context.Background(), db, nil, expr, end)
		if err != nil {
			return 0, err
		}
		defer q.Close()
		result := q.Exec(context.Background())
		if result.Err != nil {
			return 0, result.Err
		}
		vector, err := result.Vector()
		return len(vector), err
	}
	for _, query := range queries {
		line, err := judge(parse, query, count)
		if err != nil {
			fail(fmt.Errorf("%s: %w", query.name, err))
		}
		fmt.Println(line)
	}
}

func judge(parse parser.Parser, query query, count func(string) (int, error)) (string, error) {
	expr, err := parse.ParseExpr(query.expr)
	if err != nil {
		return "", err
	}
	found, all := 0, 0
	var failed error
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			all++
			series, err := count(selector.String())
			if err != nil {
				failed = err
			}
			if series > 0 {
				found++
			}
		}
		return nil
	})
	if failed != nil {
		return "", failed
	}
	left, err := count(leftSide(expr).String())
	if err != nil {
		return "", err
	}
	whole, err := count(query.expr)
	return fmt.Sprintf("%s\t%d/%d\t%d\t%d", query.name, found, all, left, whole), err
}

// leftSide drops the thresholds an expression compares with at its top.
func leftSide(expr parser.Expr) parser.Expr {
	switch it := expr.(type) {
	case *parser.ParenExpr:
		return leftSide(it.Expr)
	case *parser.BinaryExpr:
		if it.Op == parser.LAND || it.Op.IsComparisonOperator() && !it.ReturnBool {
			return leftSide(it.LHS)
		}
	}
	return expr
}

func read(rulesFile, queriesFile string) ([]query, error) {
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		return nil, err
	}
	var file rules
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	var queries []query
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			queries = append(queries, query{rule.Alert + "/" + rule.Labels["severity"], rule.Expr})
		}
	}
	if text, err = os.ReadFile(queriesFile); err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(text), "\n") {
		if name, expr, ok := strings.Cut(line, ": "); ok && !strings.HasPrefix(line, "#") {
			queries = append(queries, query{name, expr})
		}
	}
	return queries, nil
}

// load fills the database and returns the time of the last scrape.
func load(db *tsdb.DB, folder string, begin time.Time) (time.Time, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.prom"))
	if err != nil || len(files) == 0 {
		return begin, errors.Join(err, fmt.Errorf("no scrapes in %s", folder))
	}
	sort.Strings(files)
	end := begin
	for _, file := range files {
		number, instance, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".prom"), "-")
		minute, err := strconv.Atoi(number)
		if err != nil {
			return end, err
		}
		end = begin.Add(time.Duration(minute) * time.Minute)
		if err := loadOne(db, file, instance, end.UnixMilli()); err != nil {
			return end, fmt.Errorf("%s: %w", file, err)
		}
	}
	return end, nil
}

func loadOne(db *tsdb.DB, file, instance string, at int64) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	app := db.Appender(context.Background())
	add := func(series labels.Labels, value float64) error {
		builder := labels.NewBuilder(series)
		builder.Set("job", "etcd").Set("instance", instance).Set("cluster", "keelson")
		_, err := app.Append(0, builder.Labels(), at, value)
		return err
	}
	if err := add(labels.FromStrings("__name__", "up"), 1); err != nil {
		return err
	}
	scrape := textparse.NewPromParser(text, labels.NewSymbolTable(), false)
	for {
		entry, err := scrape.Next()
		if errors.Is(err, io.EOF) {
			return app.Commit()
		}
		if err != nil {
			return err
		}
		if entry != textparse.EntrySeries {
			continue
		}
		_, _, value := scrape.Series()
		var series labels.Labels
		scrape.Labels(&series)
		if err := add(series, value); err != nil {
			return err
		}
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "promql:", err)
		os.Exit(1)
	}
}
