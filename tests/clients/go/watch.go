package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Watches with history, filters, previous values, fragments, progress, and many watchers on one stream.
func suiteWatch(ctx context.Context, client *clientv3.Client) {
	first, err := client.Put(ctx, "watch/a", "1")
	check(err)
	watch := client.Watch(ctx, "watch/", clientv3.WithPrefix(), clientv3.WithRev(first.Header.Revision),
		clientv3.WithPrevKV(), clientv3.WithCreatedNotify(), clientv3.WithFragment())
	created := <-watch
	expect("created", created.Created, true)
	_, err = client.Put(ctx, "watch/a", "2")
	check(err)
	_, err = client.Txn(ctx).Then(clientv3.OpPut("watch/b", "1"), clientv3.OpDelete("watch/a")).Commit()
	check(err)
	var events []*clientv3.Event
	for len(events) < 4 {
		response := <-watch
		check(response.Err())
		events = append(events, response.Events...)
	}
	expect("create", events[0].IsCreate(), true)
	expect("modify", events[1].IsModify(), true)
	expect("previous value", string(events[1].PrevKv.Value), "1")
	expect("delete", events[3].Type, clientv3.EventTypeDelete)
	expect("one revision", events[2].Kv.ModRevision, events[3].Kv.ModRevision)

	// The client asks on the stream of its context; the answer goes to every watcher of it.
	check(client.RequestProgress(ctx))
	progress := <-watch
	expect("progress", progress.IsProgressNotify(), true)
	if progress.Header.Revision < events[3].Kv.ModRevision {
		fail("progress at %d, before an event at %d", progress.Header.Revision, events[3].Kv.ModRevision)
	}

	filtered := client.Watch(ctx, "watch/f", clientv3.WithFilterPut())
	manyContext, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	got := make([]int, 50)
	var ready sync.WaitGroup
	for i := range got {
		channel := client.Watch(manyContext, fmt.Sprintf("watch/many%02d", i), clientv3.WithCreatedNotify())
		ready.Add(1)
		group.Add(1)
		go func() {
			defer group.Done()
			for response := range channel {
				if response.Created {
					ready.Done()
				}
				got[i] += len(response.Events)
			}
		}()
	}
	ready.Wait()
	for i := range got {
		_, err := client.Put(ctx, fmt.Sprintf("watch/many%02d", i), "x")
		check(err)
	}
	_, err = client.Put(ctx, "watch/f", "x")
	check(err)
	_, err = client.Delete(ctx, "watch/f")
	check(err)
	response := <-filtered
	expect("filtered", response.Events[0].Type, clientv3.EventTypeDelete)
	// Everything before the filtered delete was written earlier; give the other watchers' channels their turn.
	deadline := time.Now().Add(10 * time.Second)
	check(client.RequestProgress(manyContext))
	for sum(got) < len(got) && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	cancel()
	group.Wait()
	expect("events of many watchers", sum(got), len(got))
}

func sum(numbers []int) int {
	total := 0
	for _, number := range numbers {
		total += number
	}
	return total
}
