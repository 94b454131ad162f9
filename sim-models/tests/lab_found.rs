//! What the lab against the real kernel found wrong in the model, each as a row that needs no kernel.
//!
//! A row is rules, a packet, and what the kernel did with it (Linux 6.18).

use sim_core::classify::{Family, Packet, Verdict};
use sim_core::units::SimTime;
use sim_models::kernel::path::{NodeState, Origin, Stack, cross};
use sim_models::proxy::mode;
use std::net::IpAddr;

const NODE: &str = "192.168.0.2";

/// What becomes of a TCP SYN from `src` under the rules of a mode.
fn verdict(mode_name: &str, rules: &str, origin: Origin, src: &str, dst: &str, port: u16) -> Verdict {
    let dumps = mode(mode_name).and_then(|mode| mode.dumps()).expect("a mode");
    let rules = dumps.read(rules, Family::Ipv4).expect("rules that are right");
    let stack = Stack::new(&rules, 1).expect("rules that compile");
    let [node, src, dst]: [IpAddr; 3] = [NODE, src, dst].map(|addr| addr.parse().expect("an address"));
    let mut state = NodeState::new(1, "node", 2, &[node]);
    cross(&stack, &mut state, Packet::tcp_syn(src, 40_000, dst, port), origin, SimTime::ZERO).verdict
}

/// A node port without endpoints is refused at INPUT only. What the node sends to itself leaves by `lo` and comes in
/// again, still the first packet of its connection: the model had let it pass.
#[test]
fn a_node_port_without_endpoints_refuses_the_node_itself() {
    let iptables = "\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A KUBE-EXTERNAL-SERVICES -p tcp -m addrtype --dst-type LOCAL -m tcp --dport 30005 -j REJECT --reject-with icmp-port-unreachable
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
COMMIT
";
    let nftables = "\
table ip kube-proxy {
	map no-endpoint-nodeports {
		type inet_proto . inet_service : verdict
		elements = { tcp . 30005 : goto reject-chain }
	}

	chain filter-input {
		type filter hook input priority -110; policy accept;
		ct state new jump nodeport-endpoints-check
	}

	chain nodeport-endpoints-check {
		meta l4proto . th dport vmap @no-endpoint-nodeports
	}

	chain reject-chain {
		reject
	}
}
";
    for (mode, rules) in [("iptables", iptables), ("nftables", nftables)] {
        for (origin, src, dst) in [
            (Origin::Host, NODE, NODE),
            (Origin::Host, "127.0.0.1", "127.0.0.1"),
            (Origin::Pod, "10.244.0.9", NODE),
        ] {
            assert_eq!(
                verdict(mode, rules, origin, src, dst, 30_005),
                Verdict::Reject,
                "{mode} {src} > {dst}"
            );
            assert_eq!(
                verdict(mode, rules, origin, src, dst, 30_006),
                Verdict::Accept,
                "{mode} {src} > {dst}"
            );
        }
        assert_eq!(verdict(mode, rules, Origin::Host, NODE, "10.244.0.9", 30_005), Verdict::Accept, "{mode}");
    }
}
