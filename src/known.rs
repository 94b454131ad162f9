//! The names that scenarios may use, gathered from the tables of the models.

use scenarios::known::{Known, Named};

/// Every mode, scheduler, profile and metric there is.
pub fn known() -> Known {
    Known {
        modes: Named::list(&[
            ("iptables", "one chain walked rule by rule; what kube-proxy does unless told otherwise"),
            ("ipvs", "the kernel's load balancer: hash tables, 14 schedulers; deprecated since 1.35"),
            ("nftables", "a verdict map: one lookup whatever the number of Services"),
        ]),
        schedulers: Named::list(&[
            ("rr", "round robin"),
            ("wrr", "weighted round robin"),
            ("lc", "least connections"),
            ("wlc", "weighted least connections"),
            ("sed", "shortest expected delay"),
            ("nq", "never queue: an idle server first, else sed"),
            ("sh", "source hashing"),
            ("dh", "destination hashing"),
            ("mh", "Maglev hashing"),
            ("fo", "failover: the heaviest server takes all"),
            ("ovf", "overflow: the heaviest server until it is full"),
            ("lblc", "locality-based least connections"),
            ("lblcr", "locality-based least connections with replication"),
            ("twos", "the less loaded of two chosen at random"),
        ]),
        profiles: Named::list(&[
            ("linux-6.18", "nanoseconds, measured on Linux 6.18"),
            ("linux-6.1-instructions", "instructions, counted on Linux 6.1"),
        ]),
        metrics: Named::list(&[
            (
                "first_packet_mean",
                "mean cost of classifying the first packet of a connection on the client's node",
            ),
            ("first_packet_p50", "median cost of a first packet"),
            ("first_packet_p99", "cost that one first packet in a hundred exceeds"),
            (
                "server_node_first_packet_mean",
                "mean cost of a first packet on the node of the pod that it reaches",
            ),
            ("established_packet_mean", "mean cost of a packet of a connection that conntrack knows"),
            ("established_packet_p50", "median cost of an established packet"),
            ("established_packet_p99", "cost that one established packet in a hundred exceeds"),
            ("first_packet_latency_p50", "median time from sending a first packet to its arrival"),
            ("first_packet_latency_p99", "time that one first packet in a hundred exceeds"),
            ("connection_p50", "median time from opening a connection to its last reply"),
            ("connection_p99", "time that one connection in a hundred exceeds"),
            ("rules_evaluated_mean", "rules evaluated for a first packet"),
            ("hash_probes_mean", "hash tables looked into for a first packet"),
            ("first_full_sync", "time that kube-proxy takes to write all rules for the first time"),
            ("endpoint_change_sync", "time that kube-proxy takes to write the change of one endpoint"),
            ("convergence_p50", "median time from an endpoint change to its being live on every node"),
            ("convergence_p99", "time that one endpoint change in a hundred exceeds"),
            ("rules", "rules on one node"),
            ("kernel_memory", "kernel memory that these rules occupy on one node"),
            ("cpu_utilisation", "share of the nodes' network CPU that is busy"),
            ("failed_connections", "connections refused, dropped or timed out"),
            ("load_skew", "load of the busiest endpoint over the mean of all"),
            ("connections", "connections opened"),
            ("packets", "packets sent"),
        ]),
        kubernetes_minors: (36, 36),
    }
}
