package main

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// Grants, keep-alives over several intervals, expiry, and the lists.
func suiteLease(ctx context.Context, client *clientv3.Client) {
	lease, err := client.Grant(ctx, 3)
	check(err)
	expect("granted", lease.TTL, 3)
	_, err = client.Put(ctx, "lease/a", "x", clientv3.WithLease(lease.ID))
	check(err)
	keepContext, stop := context.WithCancel(ctx)
	channel, err := client.KeepAlive(keepContext, lease.ID)
	check(err)
	// The client renews each third of the TTL; five answers are more than the TTL.
	for range 5 {
		answer, open := <-channel
		expect("open", open, true)
		expect("renewed", answer.TTL, 3)
	}
	left, err := client.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	check(err)
	expect("attached", string(left.Keys[0]), "lease/a")
	watch := client.Watch(ctx, "lease/a")
	check(client.RequestProgress(ctx))
	stop()
	for response := range watch {
		if len(response.Events) > 0 {
			expect("expired", response.Events[0].Type, clientv3.EventTypeDelete)
			break
		}
	}
	left, err = client.TimeToLive(ctx, lease.ID)
	check(err)
	expect("time left", left.TTL, -1)
	_, err = client.KeepAliveOnce(ctx, lease.ID)
	expectError("renewing an expired lease", err, rpctypes.ErrLeaseNotFound)
	_, err = client.Revoke(ctx, lease.ID)
	expectError("revoking an expired lease", err, rpctypes.ErrLeaseNotFound)
	other, err := client.Grant(ctx, 100)
	check(err)
	// Each member lists what it has applied, so a member that lags a little may not know the lease yet.
	deadline := time.Now().Add(10 * time.Second)
	for {
		leases, err := client.Leases(ctx)
		check(err)
		if len(leases.Leases) == 1 || time.Now().After(deadline) {
			expect("leases", len(leases.Leases), 1)
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	_, err = client.Revoke(ctx, other.ID)
	check(err)
}

// The recipes users build on: locks, elections, software transactional memory.
func suiteConcurrency(ctx context.Context, client *clientv3.Client) {
	one, err := concurrency.NewSession(client, concurrency.WithTTL(5))
	check(err)
	defer one.Close()
	two, err := concurrency.NewSession(client, concurrency.WithTTL(5))
	check(err)
	defer two.Close()
	first, second := concurrency.NewMutex(one, "lock/"), concurrency.NewMutex(two, "lock/")
	check(first.Lock(ctx))
	expectError("a taken lock", second.TryLock(ctx), concurrency.ErrLocked)
	locked := make(chan error, 1)
	go func() { locked <- second.Lock(ctx) }()
	select {
	case <-locked:
		fail("two holders of one lock")
	case <-time.After(200 * time.Millisecond):
	}
	check(first.Unlock(ctx))
	check(<-locked)
	check(second.Unlock(ctx))

	election, rival := concurrency.NewElection(one, "election"), concurrency.NewElection(two, "election")
	check(election.Campaign(ctx, "one"))
	leader, err := rival.Leader(ctx)
	check(err)
	expect("leader", string(leader.Kvs[0].Value), "one")
	observed := rival.Observe(ctx)
	expect("observed", string((<-observed).Kvs[0].Value), "one")
	check(election.Proclaim(ctx, "uno"))
	expect("observed", string((<-observed).Kvs[0].Value), "uno")
	won := make(chan error, 1)
	go func() { won <- rival.Campaign(ctx, "two") }()
	check(election.Resign(ctx))
	check(<-won)
	expect("observed", string((<-observed).Kvs[0].Value), "two")
	check(rival.Resign(ctx))

	for _, name := range []string{"stm/a", "stm/b"} {
		_, err := client.Put(ctx, name, "50")
		check(err)
	}
	done := make(chan error, 10)
	for range cap(done) {
		go func() {
			// The recipe reads serializably at a revision it learned elsewhere; a member that lags a little does not have it
			// yet. That is so with any server, and users try again.
			err := error(rpctypes.ErrFutureRev)
			for errors.Is(err, rpctypes.ErrFutureRev) {
				_, err = concurrency.NewSTM(client, func(stm concurrency.STM) error {
					from, to := stm.Get("stm/a"), stm.Get("stm/b")
					stm.Put("stm/a", from[:len(from)-1])
					stm.Put("stm/b", to+"x")
					stm.Put("stm/a", from)
					return nil
				}, concurrency.WithIsolation(concurrency.SerializableSnapshot))
			}
			done <- err
		}()
	}
	for range cap(done) {
		check(<-done)
	}
	result, err := client.Get(ctx, "stm/b")
	check(err)
	expect("ten transactions", len(result.Kvs[0].Value), len("50")+10)
}
