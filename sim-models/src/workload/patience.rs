//! How long senders wait for an answer before they send again, how often, and how connections fail.
//!
//! TCP sends again after a timeout that doubles each time: a second at first for the handshake (`TCP_TIMEOUT_INIT`), and
//! 200 ms (`TCP_RTO_MIN`) for data, since round trips inside a cluster are far shorter (`net/ipv4/tcp_timer.c:
//! tcp_retransmit_timer`). UDP never does. Only packets that are lost are sent again: the timer of any other would
//! have been stopped by its answer.
//!
//! Left out: answers that come later than the timer (a core that is busy for 200 ms), fast retransmit, keep-alive.

use super::Step;
use sim_core::units::SimSpan;

/// First timeout of the handshake (`TCP_TIMEOUT_INIT`).
const HANDSHAKE: SimSpan = SimSpan::from_secs(1);
/// First timeout of data (`TCP_RTO_MIN`).
const DATA: SimSpan = SimSpan::from_ms(200);
/// Longest timeout (`TCP_RTO_MAX`).
const LONGEST: SimSpan = SimSpan::from_secs(120);

/// The time after which a packet that was sent again `resent` times before is sent once more, or given up
/// (`net.ipv4.tcp_syn_retries`, `tcp_synack_retries`, `tcp_retries2`): the flag tells that it is not.
pub fn resend(step: Step, resent: u32) -> (SimSpan, bool) {
    let (first, most) = match step {
        Step::Syn => (HANDSHAKE, 6),
        Step::SynAck => (HANDSHAKE, 5),
        _ => (DATA, 15),
    };
    (first.times(1 << resent.min(20)).min(LONGEST), resent < most)
}

/// How a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Failure {
    /// Somebody said no: a rule that rejects, or a pod without a listener.
    Refused,
    /// The node of a pod that is gone said that nobody is there.
    Unreachable,
    /// Nothing came back until the client gave up.
    TimedOut,
    /// It was established, and the other side knew nothing of it.
    Reset,
    /// The client's own node lost power.
    Vanished,
}

impl Failure {
    /// All of them, in the order of their numbers.
    pub const ALL: [Failure; 5] =
        [Failure::Refused, Failure::Unreachable, Failure::TimedOut, Failure::Reset, Failure::Vanished];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Failure::Refused => "refused",
            Failure::Unreachable => "unreachable",
            Failure::TimedOut => "timed_out",
            Failure::Reset => "reset",
            Failure::Vanished => "vanished",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syn_is_sent_again_after_1_3_and_7_seconds_and_six_times_in_all() {
        let mut at = SimSpan::ZERO;
        let sent: Vec<f64> = (0..)
            .map(|n| resend(Step::Syn, n))
            .take_while(|(_, again)| *again)
            .map(|(wait, _)| {
                at += wait;
                at.as_secs_f64()
            })
            .collect();
        assert_eq!(sent, [1.0, 3.0, 7.0, 15.0, 31.0, 63.0]);
        assert_eq!(resend(Step::Request, 0).0, SimSpan::from_ms(200));
        assert_eq!(resend(Step::Answer, 14).0, SimSpan::from_secs(120));
    }
}
