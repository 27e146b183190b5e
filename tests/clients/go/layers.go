package main

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"
)

// Key spaces under a prefix.
func suiteNamespace(ctx context.Context, client *clientv3.Client) {
	kv, watcher := namespace.NewKV(client.KV, "ns/"), namespace.NewWatcher(client.Watcher, "ns/")
	watch := watcher.Watch(ctx, "", clientv3.WithFromKey(), clientv3.WithCreatedNotify())
	<-watch
	_, err := kv.Put(ctx, "a", "1")
	check(err)
	event := (<-watch).Events[0]
	expect("watched key", string(event.Kv.Key), "a")
	outside, err := client.Get(ctx, "ns/a")
	check(err)
	expect("outside", outside.Count, 1)
	inside, err := kv.Get(ctx, "", clientv3.WithFromKey())
	check(err)
	expect("inside", inside.Count, 1)
	txn, err := kv.Txn(ctx).If(clientv3.Compare(clientv3.Value("a"), "=", "1")).Then(clientv3.OpDelete("a")).Commit()
	check(err)
	expect("compared", txn.Succeeded, true)
}

// The syncer of make-mirror: a base and the updates after it.
func suiteMirror(ctx context.Context, client *clientv3.Client) {
	for i := range 1500 {
		_, err := client.Put(ctx, fmt.Sprintf("mirror/%04d", i), "x")
		check(err)
	}
	syncer := mirror.NewSyncer(client, "mirror/", 0)
	base, errors := syncer.SyncBase(ctx)
	total := 0
	for page := range base {
		total += len(page.Kvs)
	}
	check(<-errors)
	expect("base", total, 1500)
	updates := syncer.SyncUpdates(ctx)
	_, err := client.Put(ctx, "mirror/new", "y")
	check(err)
	expect("update", string((<-updates).Events[0].Kv.Key), "mirror/new")
}

// The interface that the Kubernetes API server uses.
func suiteKubernetes(ctx context.Context, client *clientv3.Client) {
	store := kubernetes.Client{Client: client}
	store.Kubernetes = store
	created, err := store.OptimisticPut(ctx, "registry/pods/a", []byte("1"), 0, kubernetes.PutOptions{})
	check(err)
	expect("created", created.Succeeded, true)
	conflict, err := store.OptimisticPut(ctx, "registry/pods/a", []byte("2"), 0, kubernetes.PutOptions{GetOnFailure: true})
	check(err)
	expect("conflict", conflict.Succeeded, false)
	expect("what is there", string(conflict.KV.Value), "1")
	updated, err := store.OptimisticPut(ctx, "registry/pods/a", []byte("2"), created.Revision, kubernetes.PutOptions{})
	check(err)
	expect("updated", updated.Succeeded, true)
	for i := range 20 {
		_, err := store.OptimisticPut(ctx, fmt.Sprintf("registry/pods/n%02d", i), []byte("x"), 0, kubernetes.PutOptions{})
		check(err)
	}
	list, err := store.List(ctx, "registry/pods/", kubernetes.ListOptions{Limit: 5})
	check(err)
	expect("page", len(list.Kvs), 5)
	expect("count", list.Count, 21)
	rest, err := store.List(ctx, "registry/pods/", kubernetes.ListOptions{
		Revision: list.Revision, Continue: string(list.Kvs[4].Key) + "\x00",
	})
	check(err)
	expect("rest", len(rest.Kvs), 16)
	count, err := store.Count(ctx, "registry/pods/", kubernetes.CountOptions{})
	check(err)
	expect("counted", count, 21)
	got, err := store.Get(ctx, "registry/pods/a", kubernetes.GetOptions{})
	check(err)
	deleted, err := store.OptimisticDelete(ctx, "registry/pods/a", got.KV.ModRevision, kubernetes.DeleteOptions{})
	check(err)
	expect("deleted", deleted.Succeeded, true)
}

// A client-side cache guarded by leases.
func suiteLeasing(ctx context.Context, client *clientv3.Client) {
	one, closeOne, err := leasing.NewKV(client, "leasing-keys/")
	check(err)
	defer closeOne()
	two, closeTwo, err := leasing.NewKV(client, "leasing-keys/")
	check(err)
	defer closeTwo()
	_, err = one.Put(ctx, "leasing/a", "1")
	check(err)
	for _, kv := range []clientv3.KV{one, two, one} {
		got, err := kv.Get(ctx, "leasing/a")
		check(err)
		expect("cached", string(got.Kvs[0].Value), "1")
	}
	_, err = two.Put(ctx, "leasing/a", "2")
	check(err)
	got, err := one.Get(ctx, "leasing/a")
	check(err)
	expect("after the other's write", string(got.Kvs[0].Value), "2")
}

// Reads that never go back in time, whichever endpoint answers.
func suiteOrdering(ctx context.Context, client *clientv3.Client) {
	kv := ordering.NewKV(client.KV, ordering.NewOrderViolationSwitchEndpointClosure(client))
	last := int64(0)
	for i := range 30 {
		_, err := client.Put(ctx, "ordering/a", fmt.Sprint(i))
		check(err)
		linearizable, err := kv.Get(ctx, "ordering/a")
		check(err)
		local, err := kv.Get(ctx, "ordering/a", clientv3.WithSerializable())
		check(err)
		if local.Header.Revision < linearizable.Header.Revision || linearizable.Header.Revision < last {
			fail("reads at %d, %d and %d", last, linearizable.Header.Revision, local.Header.Revision)
		}
		last = local.Header.Revision
	}
}
