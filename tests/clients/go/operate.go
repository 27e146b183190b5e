package main

import (
	"context"
	"io"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// The list of members, and endpoints learned from it.
func suiteCluster(ctx context.Context, client *clientv3.Client) {
	members, err := client.MemberList(ctx)
	check(err)
	expect("members", len(members.Members), len(client.Endpoints()))
	local, err := client.MemberList(ctx, clientv3.WithSerializable())
	check(err)
	expect("local members", len(local.Members), len(members.Members))
	check(client.Sync(ctx))
	expect("endpoints", len(client.Endpoints()), len(members.Members))
	_, err = client.MemberRemove(ctx, 5)
	expectError("removing a stranger", err, rpctypes.ErrMemberNotFound)
}

// Status, hashes, alarms, defragmentation, leadership, snapshot.
func suiteMaintenance(ctx context.Context, client *clientv3.Client) {
	var hash uint32
	var revision int64
	for i, endpoint := range client.Endpoints() {
		status, err := client.Status(ctx, endpoint)
		check(err)
		if status.Leader == 0 || status.DbSize == 0 || status.Version == "" {
			fail("an empty status: %v", status)
		}
		if i == 0 {
			revision = status.Header.Revision
		}
		answer, err := client.HashKV(ctx, endpoint, revision)
		check(err)
		if i > 0 {
			expect("hash", answer.Hash, hash)
		}
		hash = answer.Hash
		_, err = client.Defragment(ctx, endpoint)
		check(err)
	}
	alarms, err := client.AlarmList(ctx)
	check(err)
	expect("alarms", len(alarms.Alarms), 0)
	_, err = client.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	check(err)
	if len(client.Endpoints()) > 1 {
		moveLeader(ctx, client)
	}
	if lacking["snapshot"] {
		return
	}
	snapshot, err := client.SnapshotWithVersion(ctx)
	check(err)
	defer snapshot.Snapshot.Close()
	bytes, err := io.Copy(io.Discard, snapshot.Snapshot)
	check(err)
	expect("size of the snapshot modulo a sector", bytes%512, 32)
}

func moveLeader(ctx context.Context, client *clientv3.Client) {
	var leaderEndpoint string
	var target uint64
	for _, endpoint := range client.Endpoints() {
		status, err := client.Status(ctx, endpoint)
		check(err)
		if status.Leader == status.Header.MemberId {
			leaderEndpoint = endpoint
		} else {
			target = status.Header.MemberId
		}
	}
	direct, err := clientv3.New(clientv3.Config{Endpoints: []string{leaderEndpoint}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	check(err)
	defer direct.Close()
	_, err = direct.MoveLeader(ctx, target)
	check(err)
	status, err := direct.Status(ctx, leaderEndpoint)
	check(err)
	expect("leader", status.Leader, target)
}

// Users, roles, and a client that logs in, loses its permission, and gets it back.
func suiteAuth(ctx context.Context, client *clientv3.Client) {
	for _, role := range []string{"root", "reader"} {
		_, err := client.RoleAdd(ctx, role)
		check(err)
	}
	_, err := client.UserAdd(ctx, "root", "pw")
	check(err)
	_, err = client.UserAdd(ctx, "alice", "pw")
	check(err)
	_, err = client.UserGrantRole(ctx, "root", "root")
	check(err)
	_, err = client.UserGrantRole(ctx, "alice", "reader")
	check(err)
	_, err = client.RoleGrantPermission(ctx, "reader", "auth/", clientv3.GetPrefixRangeEnd("auth/"), clientv3.PermissionType(clientv3.PermRead))
	check(err)
	_, err = client.Put(ctx, "auth/a", "1")
	check(err)
	_, err = client.AuthEnable(ctx)
	check(err)
	login := func(name string) *clientv3.Client {
		logged, err := clientv3.New(clientv3.Config{
			Endpoints: client.Endpoints(), DialTimeout: 5 * time.Second, Username: name, Password: "pw", Logger: zap.NewNop(),
		})
		check(err)
		return logged
	}
	root, alice := login("root"), login("alice")
	defer root.Close()
	defer alice.Close()
	got, err := alice.Get(ctx, "auth/", clientv3.WithPrefix())
	check(err)
	expect("read", got.Count, 1)
	_, err = alice.Put(ctx, "auth/a", "2")
	expectError("writing", err, rpctypes.ErrPermissionDenied)
	denied := <-alice.Watch(ctx, "other")
	expect("denied watch", denied.Canceled, true)
	_, err = client.Get(ctx, "auth/a")
	expectError("no login", err, rpctypes.ErrUserEmpty)
	// A change of rights makes old tokens old; the client logs in again by itself.
	_, err = root.RoleGrantPermission(ctx, "reader", "auth/", clientv3.GetPrefixRangeEnd("auth/"), clientv3.PermissionType(clientv3.PermReadWrite))
	check(err)
	_, err = alice.Put(ctx, "auth/a", "2")
	check(err)
	_, err = root.AuthDisable(ctx)
	check(err)
	_, err = client.Get(ctx, "auth/a")
	check(err)
}
