//! A node in a network namespace of its own, and the world at the other ends of its devices.
//!
//! ```text
//! world  veth0 ---- veth0  node   local pods
//!        eth0  ---- eth0          everything else, by the default route
//! ```
//! The world is a second namespace without addresses: nobody in it answers, what comes there is only looked at. There
//! is no ARP. All processes are in a PID namespace that ends with the driver (`node.py`), so that nothing stays behind;
//! the host's own namespaces are not touched.

use crate::bytes::{self, Seen};
use crate::support::lab::file;
use sim_core::classify::Packet;
use sim_models::kernel::path::Origin;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Other addresses of the node, which no Node object lists.
pub const EXTRA: [&str; 2] = ["192.168.1.9", "fd99::9"];

/// Networks of the node's own pods: of the recorded clusters, of those made IPv6, and of the one that has both.
const POD_CIDRS: [&str; 3] = ["10.244.0.0/24", "fd00::af4:0/120", "fd00:244::/64"];

const SETUP: &str = "\
mount -t tmpfs lab /run
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \\
  net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0 net.ipv4.conf.all.route_localnet=1 \\
  net.ipv4.icmp_ratemask=0 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0
echo > /proc/sys/net/ipv6/icmp/ratemask
for device in eth0 veth0; do
  ip link add $device address 02:00:00:00:00:01 type veth peer name $device netns $world
done
nsenter --net=$world ip -batch - <<END
link set eth0 arp off addrgenmode none up
link set veth0 arp off addrgenmode none up
END
ip -batch - <<END
link set lo up
link set eth0 arp off addrgenmode none up
link set veth0 arp off addrgenmode none up
route add 0.0.0.0/0 dev eth0
route add ::/0 dev eth0
";

/// Where a packet was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// With the local pods.
    Pods,
    /// On the way out of the node.
    Wire,
    /// At the node itself.
    Node,
}

impl Point {
    fn of(name: &str) -> Self {
        match name {
            "veth0" => Point::Pods,
            "eth0" => Point::Wire,
            "host" => Point::Node,
            other => panic!("no such place: {other}"),
        }
    }

    /// Where an answer comes from that somebody gives here; the node itself gives none.
    pub fn origin(self) -> Option<Origin> {
        match self {
            Point::Pods => Some(Origin::Pod),
            Point::Wire => Some(Origin::Wire),
            Point::Node => None,
        }
    }

    /// Where a packet comes out that leaves for `addr`.
    pub fn towards(addr: IpAddr, node_ips: &[IpAddr]) -> Self {
        let pods = POD_CIDRS.map(|net| net.parse::<ipnet::IpNet>().expect("a network"));
        if addr.is_loopback() || node_ips.contains(&addr) {
            Point::Node
        } else if pods.iter().any(|net| net.contains(&addr)) {
            Point::Pods
        } else {
            Point::Wire
        }
    }
}

/// A packet to send, with its number.
#[derive(Clone, Copy, Debug)]
pub struct Shot {
    pub packet: Packet,
    pub origin: Origin,
    pub id: u32,
}

/// A running node.
pub struct Node {
    name: String,
    /// Its scratch files.
    files: BTreeSet<PathBuf>,
    driver: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Node {
    /// Starts one with these addresses of its own beside [`EXTRA`]; `name` is that of its scratch files.
    pub fn start(name: &str, node_ips: &[IpAddr]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/node.py");
        let mut driver = Command::new("unshare");
        driver.args(["-n", "-m", "-p", "-f", "--kill-child", "--mount-proc", "python3"]).arg(script);
        driver.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
        driver.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut driver = driver.spawn().expect("unshare is there");
        let stdin = driver.stdin.take();
        let stdout = BufReader::new(driver.stdout.take().expect("a pipe"));
        let mut node = Node { name: name.to_owned(), files: BTreeSet::new(), driver, stdin, stdout };
        let mut setup = SETUP.to_owned();
        for addr in node_ips {
            let rest = if addr.is_ipv4() { "/24 dev eth0" } else { "/120 dev eth0 nodad" };
            setup.push_str(&format!("addr add {addr}{rest}\n"));
        }
        // Of a scope that masquerading does not choose.
        let [v4, v6] = EXTRA;
        setup.push_str(&format!("addr add {v4}/32 dev lo scope host\naddr add {v6}/128 dev lo nodad\n"));
        setup.extend(POD_CIDRS.map(|net| format!("route add {net} dev veth0\n")));
        setup.push_str("END\n");
        node.run(&setup);
        node.order("open");
        node
    }

    /// What this shell script prints, which must not fail.
    #[track_caller]
    pub fn run(&mut self, script: &str) -> String {
        let path = self.file("sh", script);
        self.order(&format!("sh {path}"))
    }

    /// Has the driver do something: what it prints.
    #[track_caller]
    fn order(&mut self, order: &str) -> String {
        writeln!(self.stdin.as_mut().expect("a pipe"), "{order}").expect("the driver lives");
        let mut text = String::new();
        loop {
            let mut line = String::new();
            let length = self.stdout.read_line(&mut line).expect("the tools print UTF-8");
            assert!(length > 0, "{}: the driver ended in: {order}\nafter:\n{text}", self.name);
            if let Some(status) = line.strip_prefix("==done== ") {
                assert_eq!(status.trim(), "0", "{}: {order} failed:\n{text}", self.name);
                return text;
            }
            text.push_str(&line);
        }
    }

    /// A scratch file of this node, which goes with it unless something fails.
    pub fn file(&mut self, part: &str, text: &str) -> String {
        let path = file(&format!("lab.{}.{}.{part}", self.name, self.driver.id()), text);
        let name = path.display().to_string();
        self.files.insert(path);
        name
    }

    /// Sends packets, one after another, and gives what came out, where.
    pub fn fire(&mut self, shots: &[Shot]) -> Vec<(Point, Seen)> {
        let mut lines = String::new();
        for shot in shots {
            let from = match shot.origin {
                Origin::Pod => "veth0",
                Origin::Wire => "eth0",
                Origin::Host => "host",
            };
            let hex = bytes::hex(&bytes::compose(&shot.packet, shot.id));
            writeln!(lines, "{from} {hex}").expect("a String takes everything");
        }
        let path = self.file("packets", &lines);
        let seen = self.order(&format!("fire {path}"));
        let seen = seen.lines().filter_map(|line| {
            let (place, hex) = line.split_once(' ').unwrap_or_else(|| panic!("{}: {seen}", self.name));
            assert!(["veth0", "eth0", "host"].contains(&place), "{}: {seen}", self.name);
            Some((Point::of(place), bytes::read(&bytes::unhex(hex))?))
        });
        seen.collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The end of its input ends the driver; on a failure it is killed, and the PID namespace with it.
        self.stdin = None;
        if std::thread::panicking() {
            let _ = self.driver.kill();
        } else {
            self.files.iter().for_each(|file| drop(std::fs::remove_file(file)));
        }
        let _ = self.driver.wait();
    }
}
