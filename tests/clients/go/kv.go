package main

import (
	"context"
	"fmt"
	"sort"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Puts, gets with their options, deletes, and the errors the client turns into its own values.
func suiteKV(ctx context.Context, client *clientv3.Client) {
	first, err := client.Put(ctx, "kv/a", "1")
	check(err)
	second, err := client.Put(ctx, "kv/a", "2", clientv3.WithPrevKV())
	check(err)
	expect("revision", second.Header.Revision, first.Header.Revision+1)
	expect("previous value", string(second.PrevKv.Value), "1")
	for i := range 30 {
		_, err := client.Put(ctx, fmt.Sprintf("kv/n%02d", i), fmt.Sprint(100-i))
		check(err)
	}
	page, err := client.Get(ctx, "kv/n", clientv3.WithPrefix(), clientv3.WithLimit(10))
	check(err)
	expect("page", len(page.Kvs), 10)
	expect("more", page.More, true)
	expect("count", page.Count, 30)
	old, err := client.Get(ctx, "kv/a", clientv3.WithRev(first.Header.Revision))
	check(err)
	expect("old value", string(old.Kvs[0].Value), "1")
	sorted, err := client.Get(ctx, "kv/n", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByValue, clientv3.SortDescend))
	check(err)
	values := make([]string, 0, len(sorted.Kvs))
	for _, kv := range sorted.Kvs {
		values = append(values, string(kv.Value))
	}
	expect("descending", sort.IsSorted(sort.Reverse(sort.StringSlice(values))), true)
	last, err := client.Get(ctx, "kv/n", clientv3.WithLastKey()...)
	check(err)
	expect("last key", string(last.Kvs[0].Key), "kv/n29")
	keys, err := client.Get(ctx, "kv/n", clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithSerializable())
	check(err)
	expect("keys only", len(keys.Kvs[0].Value), 0)
	count, err := client.Get(ctx, "kv/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	check(err)
	expect("counted", count.Count, 31)
	deleted, err := client.Delete(ctx, "kv/n1", clientv3.WithPrefix(), clientv3.WithPrevKV())
	check(err)
	expect("deleted", deleted.Deleted, 10)
	expect("previous values", len(deleted.PrevKvs), 10)

	_, err = client.Put(ctx, "", "x")
	expectError("an empty key", err, rpctypes.ErrEmptyKey)
	_, err = client.Get(ctx, "kv/a", clientv3.WithRev(1<<40))
	expectError("a future revision", err, rpctypes.ErrFutureRev)
	_, err = client.Put(ctx, "kv/a", "x", clientv3.WithLease(12345))
	expectError("an unknown lease", err, rpctypes.ErrLeaseNotFound)
	_, err = client.Put(ctx, "kv/missing", "", clientv3.WithIgnoreValue())
	expectError("keeping no value", err, rpctypes.ErrKeyNotFound)
}

// Transactions with every kind of comparison, nested ones, and duplicates.
func suiteTxn(ctx context.Context, client *clientv3.Client) {
	create := clientv3.Compare(clientv3.CreateRevision("txn/a"), "=", 0)
	put := clientv3.OpPut("txn/a", "1")
	get := clientv3.OpGet("txn/a")
	made, err := client.Txn(ctx).If(create).Then(put).Else(get).Commit()
	check(err)
	expect("first", made.Succeeded, true)
	again, err := client.Txn(ctx).If(create).Then(put).Else(get).Commit()
	check(err)
	expect("second", again.Succeeded, false)
	kv := again.Responses[0].GetResponseRange().Kvs[0]
	expect("read in else", string(kv.Value), "1")
	compares := []clientv3.Cmp{
		clientv3.Compare(clientv3.Value("txn/a"), "=", "1"),
		clientv3.Compare(clientv3.Version("txn/a"), "<", 2),
		clientv3.Compare(clientv3.ModRevision("txn/a"), "=", kv.ModRevision),
		clientv3.Compare(clientv3.LeaseValue("txn/a"), "=", 0),
		clientv3.Compare(clientv3.Version("txn/"), ">", 0).WithPrefix(),
	}
	nested := clientv3.OpTxn(compares, []clientv3.Op{clientv3.OpPut("txn/b", "nested")}, nil)
	all, err := client.Txn(ctx).If(compares...).Then(nested, clientv3.OpPut("txn/a", "2")).Commit()
	check(err)
	expect("nested", all.Responses[0].GetResponseTxn().Succeeded, true)
	both, err := client.Get(ctx, "txn/", clientv3.WithPrefix())
	check(err)
	expect("one revision", both.Kvs[0].ModRevision, both.Kvs[1].ModRevision)
	_, err = client.Txn(ctx).Then(put, put).Commit()
	expectError("a duplicate", err, rpctypes.ErrDuplicateKey)
	many := make([]clientv3.Op, 129)
	for i := range many {
		many[i] = get
	}
	_, err = client.Txn(ctx).Then(many...).Commit()
	expectError("too many operations", err, rpctypes.ErrTooManyOps)
}

// The streamed range of 3.7, merged by the client.
func suiteStream(ctx context.Context, client *clientv3.Client) {
	for i := range 100 {
		_, err := client.Put(ctx, fmt.Sprintf("stream/%03d", i), "value")
		check(err)
	}
	whole, err := client.Get(ctx, "stream/", clientv3.WithPrefix())
	check(err)
	stream, err := client.GetStream(ctx, "stream/", clientv3.WithPrefix())
	check(err)
	streamed, err := clientv3.GetStreamToGetResponse(stream)
	check(err)
	expect("streamed keys", len(streamed.Kvs), 100)
	expect("count", streamed.Count, whole.Count)
	expect("revision", streamed.Header.Revision, whole.Header.Revision)
	expect("last key", string(streamed.Kvs[99].Key), "stream/099")
}

// Compaction: what the client sees of it.
func suiteCompaction(ctx context.Context, client *clientv3.Client) {
	var revisions []int64
	for i := range 5 {
		put, err := client.Put(ctx, "compaction/a", fmt.Sprint(i))
		check(err)
		revisions = append(revisions, put.Header.Revision)
	}
	_, err := client.Compact(ctx, revisions[3], clientv3.WithCompactPhysical())
	check(err)
	_, err = client.Get(ctx, "compaction/a", clientv3.WithRev(revisions[2]))
	expectError("a compacted revision", err, rpctypes.ErrCompacted)
	at, err := client.Get(ctx, "compaction/a", clientv3.WithRev(revisions[3]))
	check(err)
	expect("at the compaction", string(at.Kvs[0].Value), "3")
	_, err = client.Compact(ctx, revisions[3])
	expectError("compacting again", err, rpctypes.ErrCompacted)
	channel := client.Watch(ctx, "compaction/a", clientv3.WithRev(revisions[0]))
	response := <-channel
	expect("cancelled", response.Canceled, true)
	expect("compact revision", response.CompactRevision, revisions[3])
	expectError("a compacted watch", response.Err(), rpctypes.ErrCompacted)
}
