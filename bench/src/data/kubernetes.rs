//! Objects as kube-apiserver writes them to etcd: protobuf behind a four-byte mark, with the repetition that real ones
//! have (labels, managed fields, images) and the randomness that they have (uids, names, secrets).
//!
//! Owns: shapes, sizes and the mix of kinds. Called by: `data`.
//! Invariants: an object is a function of seed, kind, number and version; between versions little changes, as between
//! two updates of a real object.
//! Source: field numbers of `k8s.io/api` and `k8s.io/apimachinery`; managed fields are the larger half of a small object.

use bytes::Bytes;

use super::Random;
use super::protobuf::Message;

/// What all keys begin with.
pub(super) const PREFIX: &str = "/registry/";

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pod,
    Event,
    Lease,
    ConfigMap,
    Secret,
}

/// The mix: of ten objects four are Pods, three Events, one each a Lease, a ConfigMap and a Secret.
pub(super) fn kind_of(number: u64) -> Kind {
    match number % 10 {
        0..4 => Kind::Pod,
        4..7 => Kind::Event,
        7 => Kind::Lease,
        8 => Kind::ConfigMap,
        _ => Kind::Secret,
    }
}

/// Where the object is stored.
pub(super) fn key(seed: u64, kind: Kind, number: u64) -> Bytes {
    let names = Names::of(seed, kind, number);
    let resource = match kind {
        Kind::Pod => "pods",
        Kind::Event => "events",
        Kind::Lease => "leases",
        Kind::ConfigMap => "configmaps",
        Kind::Secret => "secrets",
    };
    Bytes::from(format!("{PREFIX}{resource}/{}/{}", names.namespace, names.name))
}

/// The stored bytes of one version of the object.
pub(super) fn value(seed: u64, kind: Kind, number: u64, version: u64) -> Bytes {
    let names = Names::of(seed, kind, number);
    let mut random = Random::new(seed ^ number.rotate_left(24) ^ 0x6f62_6a65);
    let mut object = Message::default();
    object.message(1, |meta| metadata(meta, kind, &names, &mut random, version));
    let (api_version, kind_name) = match kind {
        Kind::Pod => {
            object.message(2, |spec| pod_spec(spec, &names, &mut random));
            object.message(3, |status| pod_status(status, &mut random, version));
            ("v1", "Pod")
        }
        Kind::Event => {
            event(&mut object, &names, &mut random, version);
            ("v1", "Event")
        }
        Kind::Lease => {
            object.message(2, |spec| {
                spec.text(1, &names.node).number(2, 40);
                spec.message(4, |time| time_of(time, 10 * version));
            });
            ("coordination.k8s.io/v1", "Lease")
        }
        Kind::ConfigMap => {
            for file in 0..1 + random.below(3) {
                object.entry(2, &format!("config-{file}.yaml"), settings(&mut random, version));
            }
            ("v1", "ConfigMap")
        }
        Kind::Secret => {
            let length = 300 + random.below(1500) as usize;
            object.entry(2, "tls.crt", certificate(&mut random, length));
            object.entry(2, "tls.key", Random::new(random.number() ^ version).bytes(240));
            object.text(3, "kubernetes.io/tls");
            ("v1", "Secret")
        }
    };
    let mut stored = Message(b"k8s\0".to_vec());
    stored.message(1, |types| {
        types.text(1, api_version).text(2, kind_name);
    });
    stored.text(2, object.0).text(3, "").text(4, "");
    Bytes::from(stored.0)
}

struct Names {
    namespace: String,
    app: String,
    name: String,
    node: String,
}

impl Names {
    fn of(seed: u64, kind: Kind, number: u64) -> Self {
        const APPS: [&str; 8] = [
            "frontend",
            "checkout",
            "payments",
            "inventory",
            "search-api",
            "worker",
            "metrics-agent",
            "gateway",
        ];
        let mut random = Random::new(seed ^ number.rotate_left(32) ^ kind as u64);
        let app = APPS[random.below(8) as usize].to_owned();
        // The number keeps names apart whatever the random part does.
        let name = match kind {
            Kind::Pod => format!("{app}-{}-{:x}{}", random.hex(10), number, random.name(3)),
            Kind::Event => format!("{app}-{}-{:x}.{}", random.hex(10), number, random.hex(16)),
            _ => format!("{app}-{number:x}-{}", random.hex(6)),
        };
        Names {
            namespace: format!("team-{:03}", random.below(200)),
            app,
            name,
            node: format!("ip-10-{}-{}-{}.internal", random.below(64), random.below(256), random.below(256)),
        }
    }
}

fn metadata(meta: &mut Message, kind: Kind, names: &Names, random: &mut Random, version: u64) {
    meta.text(1, &names.name).text(3, &names.namespace).text(5, uid(random)).number(7, 1 + version);
    meta.message(8, |time| time_of(time, 0));
    if kind == Kind::Event {
        return managed(meta, "kube-controller-manager", EVENT_FIELDS, 0);
    }
    meta.entry(11, "app.kubernetes.io/name", &names.app);
    meta.entry(11, "app.kubernetes.io/part-of", "shop");
    meta.entry(11, "app.kubernetes.io/managed-by", "Helm");
    if kind == Kind::Pod {
        meta.entry(11, "pod-template-hash", random.hex(10));
        meta.entry(12, "prometheus.io/scrape", "true");
        meta.entry(12, "checksum/config", random.hex(64));
        meta.message(13, |owner| {
            let set = format!("{}-{}", names.app, random.hex(10));
            owner.text(1, "ReplicaSet").text(3, set).text(4, uid(random)).text(5, "apps/v1");
            owner.number(6, 1).number(7, 1);
        });
        managed(meta, "kube-controller-manager", POD_SPEC_FIELDS, 0);
        managed(meta, "kubelet", POD_STATUS_FIELDS, version);
    } else {
        managed(meta, "helm", OBJECT_FIELDS, version);
    }
}

/// Who owns which field, as server-side apply records it: JSON in which the names of all fields stand again.
fn managed(meta: &mut Message, manager: &str, fields: &str, version: u64) {
    meta.message(17, |entry| {
        entry.text(1, manager).text(2, "Update").text(3, "v1");
        entry.message(4, |time| time_of(time, version));
        entry.text(6, "FieldsV1").message(7, |raw| {
            raw.text(1, fields);
        });
    });
}

const EVENT_FIELDS: &str = r#"{"f:count":{},"f:firstTimestamp":{},"f:involvedObject":{},"f:lastTimestamp":{},"f:message":{},"f:reason":{},"f:source":{"f:component":{}},"f:type":{}}"#;
const OBJECT_FIELDS: &str = r#"{"f:data":{".":{},"f:config-0.yaml":{}},"f:metadata":{"f:labels":{".":{},"f:app.kubernetes.io/managed-by":{},"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/part-of":{}}}}"#;
const POD_SPEC_FIELDS: &str = r#"{"f:metadata":{"f:annotations":{".":{},"f:checksum/config":{},"f:prometheus.io/scrape":{}},"f:generateName":{},"f:labels":{".":{},"f:pod-template-hash":{}},"f:ownerReferences":{}},"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:env":{},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:ports":{},"f:resources":{},"f:terminationMessagePath":{}}},"f:dnsPolicy":{},"f:restartPolicy":{},"f:schedulerName":{}}}"#;
const POD_STATUS_FIELDS: &str = r#"{"f:status":{"f:conditions":{"k:{\"type\":\"ContainersReady\"}":{".":{},"f:lastTransitionTime":{},"f:status":{}},"k:{\"type\":\"Ready\"}":{".":{},"f:status":{}}},"f:containerStatuses":{},"f:hostIP":{},"f:phase":{},"f:podIP":{},"f:startTime":{}}}"#;

fn pod_spec(spec: &mut Message, names: &Names, random: &mut Random) {
    spec.message(1, |volume| {
        volume.text(1, format!("kube-api-access-{}", random.name(5)));
    });
    spec.message(2, |container| {
        container.text(1, "app");
        container.text(
            2,
            format!("registry.example.com/shop/{}:v1.{}.{}", names.app, random.below(40), random.below(9)),
        );
        for (name, value) in
            [("LOG_LEVEL", "info"), ("REGION", "eu-west-1"), ("DB_HOST", "postgres.data.svc.cluster.local")]
        {
            container.message(7, |env| {
                env.text(1, name).text(2, value);
            });
        }
        container.message(8, |resources| {
            for (field, cpu, memory) in [(1, "500m", "512Mi"), (2, "100m", "256Mi")] {
                resources.entry(field, "cpu", cpu).entry(field, "memory", memory);
            }
        });
        container.message(9, |mount| {
            mount.text(1, "kube-api-access").number(2, 1);
            mount.text(3, "/var/run/secrets/kubernetes.io/serviceaccount");
        });
        container.text(13, "/dev/termination-log").text(14, "IfNotPresent").text(20, "File");
    });
    spec.text(3, "Always").number(4, 30).text(6, "ClusterFirst").text(8, "default").text(9, "default");
    spec.text(10, &names.node).text(19, "default-scheduler");
    for taint in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        spec.message(22, |toleration| {
            toleration.text(1, taint).text(2, "Exists").text(4, "NoExecute").number(5, 300);
        });
    }
}

fn pod_status(status: &mut Message, random: &mut Random, version: u64) {
    status.text(1, "Running");
    for condition in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
    {
        status.message(2, |entry| {
            entry.text(1, condition).text(2, "True").message(4, |time| time_of(time, version));
        });
    }
    status.text(5, format!("10.0.{}.{}", random.below(256), random.below(256)));
    status.text(6, format!("10.244.{}.{}", random.below(256), random.below(256)));
    status.message(8, |container| {
        container.text(1, "app").number(4, 1).number(5, version);
        container.text(7, format!("registry.example.com/shop/app@sha256:{}", random.hex(64)));
        container.text(8, format!("containerd://{}", random.hex(64)));
    });
}

fn event(object: &mut Message, names: &Names, random: &mut Random, version: u64) {
    object.message(2, |involved| {
        involved
            .text(1, "Pod")
            .text(2, &names.namespace)
            .text(3, &names.name)
            .text(4, uid(random))
            .text(5, "v1");
    });
    object.text(3, "BackOff");
    object.text(
        4,
        format!(
            "Back-off restarting failed container app in pod {}_{}({})",
            names.name,
            names.namespace,
            uid(random)
        ),
    );
    object.message(5, |source| {
        source.text(1, "kubelet").text(2, &names.node);
    });
    object.message(6, |time| time_of(time, 0)).message(7, |time| time_of(time, version));
    object.number(8, 1 + version).text(9, "Warning");
}

/// A configuration file: many lines alike, one that changes.
fn settings(random: &mut Random, version: u64) -> String {
    let lines = 8 + random.below(40);
    let mut text = format!("generation: {version}\n");
    for line in 0..lines {
        text.push_str(&format!(
            "service-{line}:\n  timeout_ms: {}\n  endpoint: http://svc-{}:8080\n",
            random.below(5000),
            random.below(50)
        ));
    }
    text
}

/// Base64 of random bytes, in lines, as certificates are kept.
fn certificate(random: &mut Random, length: usize) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for position in 0..length {
        text.push(DIGITS[random.below(64) as usize] as char);
        if position % 64 == 63 {
            text.push('\n');
        }
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}

fn uid(random: &mut Random) -> String {
    format!("{}-{}-4{}-a{}-{}", random.hex(8), random.hex(4), random.hex(3), random.hex(3), random.hex(12))
}

/// Seconds since 1970, some time in 2026.
fn time_of(time: &mut Message, seconds_later: u64) {
    time.number(1, 1_790_000_000 + seconds_later);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_the_sizes_of_real_ones() {
        let mean = |kind: Kind| (0..200).map(|number| value(1, kind, number, 0).len()).sum::<usize>() / 200;
        let check = |kind, low: usize, high: usize| {
            let mean = mean(kind);
            assert!((low..high).contains(&mean), "{kind:?}: {mean} bytes on average");
        };
        check(Kind::Pod, 1900, 2500);
        check(Kind::Event, 500, 1000);
        check(Kind::Lease, 350, 700);
        check(Kind::ConfigMap, 1000, 6000);
        check(Kind::Secret, 1000, 2500);
    }

    #[test]
    fn little_changes_between_two_versions_of_a_pod() {
        let (one, two) = (value(1, Kind::Pod, 5, 3), value(1, Kind::Pod, 5, 4));
        assert_eq!(one.len(), two.len());
        let changed = one.iter().zip(&two).filter(|(left, right)| left != right).count();
        assert!((1..40).contains(&changed), "{changed} bytes changed");
    }
}
