//! Why a connection did not come about, or ended, in words that a user can act on. The reason is for records and metrics,
//! the text for people: it says what happened and what to do.
//!
//! With TLS 1.3 a dialler is connected before the other side has looked at its certificate, so a refused one shows up late,
//! as a connection closed by the other side with a TLS alert.

use quinn::{ApplicationClose, ConnectError, ConnectionError};

use crate::{
    frame::{close, wire::steers},
    identity::explain_quic,
    record::{Reason, Why},
};

/// Why a connection ended.
pub fn why(error: &ConnectionError) -> Why {
    use ConnectionError as E;
    match error {
        E::VersionMismatch => {
            Why::new(Reason::Refused, "it speaks no version of QUIC that we do: is this the address of a PAMS daemon?")
        }
        E::TransportError(e) => match of_tls(error, e.code.into(), &e.reason) {
            Some(why) => why,
            None => Why::new(Reason::Refused, format!("it broke the QUIC protocol: {e}")),
        },
        E::ConnectionClosed(close) => match of_tls(error, close.error_code.into(), &printable(&close.reason)) {
            Some(why) => why,
            None if u64::from(close.error_code) == CONNECTION_REFUSED => {
                Why::new(Reason::Refused, "it takes no connections now: starting, stopping or full; try later")
            }
            None => Why::new(Reason::Refused, format!("it gave up the connection: {close}")),
        },
        E::ApplicationClosed(close) => of_application(close),
        E::Reset => Why::new(Reason::NoAnswer, "it was restarted and no longer knew this connection"),
        E::TimedOut => Why::new(
            Reason::NoAnswer,
            "no answer: it is down, the address is wrong, or a firewall drops UDP on the way",
        ),
        E::LocallyClosed => Why::new(Reason::Cancelled, "we closed the connection"),
        E::CidsExhausted => Why::new(Reason::NotSent, "out of connection ids: too many connections on this socket"),
    }
}

/// Why dialling did not even start; nothing was sent.
pub fn why_not_dialled(error: &ConnectError) -> Why {
    use ConnectError as E;
    match error {
        E::EndpointStopping => Why::new(Reason::Shutdown, "we are stopping"),
        E::CidsExhausted => Why::new(Reason::NotSent, "out of connection ids: too many connections on this socket"),
        E::InvalidServerName(name) => Why::new(
            Reason::NotSent,
            format!("{name:?} can not be a name in a certificate: check the id and the domain"),
        ),
        E::InvalidRemoteAddress(address) => Why::new(
            Reason::NotSent,
            format!(
                "{address} can not be dialled from our socket: check the port, and that --listen has the same IP version"
            ),
        ),
        E::NoDefaultClientConfig | E::UnsupportedVersion => {
            Why::new(Reason::NotSent, format!("can not dial: {error}; this is a bug"))
        }
    }
}

/// RFC 9000, 20.1.
const CONNECTION_REFUSED: u64 = 0x2;

/// TLS alerts of two sides that find no common ground (RFC 8446, 6.2). All others are about certificates.
mod tls {
    pub const HANDSHAKE_FAILURE: u64 = 40;
    pub const PROTOCOL_VERSION: u64 = 70;
    pub const UNRECOGNISED_NAME: u64 = 112;
    pub const NO_APPLICATION_PROTOCOL: u64 = 120;
}

/// First code of TLS alerts among QUIC's error codes (RFC 9001, 4.8).
const CRYPTO: u64 = 0x100;

/// `None` if it was not TLS.
fn of_tls(error: &ConnectionError, code: u64, detail: &str) -> Option<Why> {
    let text = match code.checked_sub(CRYPTO)? {
        tls::NO_APPLICATION_PROTOCOL => {
            "we have no protocol in common: another major version of PAMS, or no PAMS daemon at this address".to_owned()
        }
        tls::HANDSHAKE_FAILURE | tls::PROTOCOL_VERSION => "we have no version or cipher of TLS in common".to_owned(),
        tls::UNRECOGNISED_NAME => {
            format!("it does not go by the name we dialled{}{detail}: check the id and the address", colon(detail))
        }
        _ => return explain_quic(error).map(|(reason, text)| Why::new(reason, text)),
    };
    Some(Why::new(Reason::Refused, text))
}

fn of_application(closed: &ApplicationClose) -> Why {
    let detail = printable(&closed.reason);
    let text = match u32::try_from(closed.error_code.into_inner()) {
        Ok(close::GOODBYE) => "it left",
        Ok(close::SUPERSEDED) => "another connection between us is kept",
        Ok(close::REJECTED) => "it turned us away",
        Ok(close::PROTOCOL) => "it says that we broke the protocol: are both of the same version?",
        Ok(close::SILENT) => "it heard no hello from us in time",
        Ok(close::DONE) => "it needs this connection no longer",
        _ => {
            return Why::new(
                Reason::Refused,
                format!("it closed the connection with code {}{}{detail}", closed.error_code, colon(&detail)),
            );
        }
    };
    Why::new(Reason::Refused, format!("{text}{}{detail}", colon(&detail)))
}

fn colon(detail: &str) -> &'static str {
    if detail.is_empty() { "" } else { ": " }
}

/// What the other side wrote: cut short, and nothing in it that a terminal would obey or that turns the line around.
fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !steers(*c)).take(200).collect()
}

#[cfg(test)]
mod tests {
    use quinn::{ConnectionClose, TransportErrorCode, VarInt};

    use super::*;

    fn closed_with_alert(alert: u8) -> Why {
        why(&ConnectionError::ConnectionClosed(ConnectionClose {
            error_code: TransportErrorCode::crypto(alert),
            frame_type: None,
            reason: "\x1b[2Jdetail".into(),
        }))
    }

    fn closed_by_application(code: u32, reason: &'static str) -> Why {
        let error_code = VarInt::from_u32(code);
        why(&ConnectionError::ApplicationClosed(ApplicationClose { error_code, reason: reason.into() }))
    }

    #[test]
    fn what_the_other_side_thinks_of_our_certificate() {
        assert_eq!(closed_with_alert(45).reason, Reason::Clock);
        assert_eq!(closed_with_alert(48).reason, Reason::Certificate);
        assert_eq!(closed_with_alert(42).reason, Reason::Certificate);
        assert_eq!(closed_with_alert(120).reason, Reason::Refused);
        for alert in 0..=255 {
            assert!(!closed_with_alert(alert).text.contains('\x1b'), "nothing for the terminal");
        }
    }

    #[test]
    fn closed_on_purpose() {
        assert_eq!(closed_by_application(close::REJECTED, "role server").text, "it turned us away: role server");
        assert_eq!(closed_by_application(close::GOODBYE, "").text, "it left");
        assert_eq!(closed_by_application(77, "").text, "it closed the connection with code 77");
        assert_eq!(closed_by_application(77, "").reason, Reason::Refused);
        assert_eq!(closed_by_application(close::REJECTED, "\u{202e}no\u{2028}").text, "it turned us away: no");
    }

    #[test]
    fn silence_and_restarts_are_no_answer() {
        assert_eq!(why(&ConnectionError::TimedOut).reason, Reason::NoAnswer);
        assert_eq!(why(&ConnectionError::Reset).reason, Reason::NoAnswer);
        assert_eq!(why(&ConnectionError::LocallyClosed).reason, Reason::Cancelled);
        assert_eq!(why(&ConnectionError::VersionMismatch).reason, Reason::Refused);
    }

    #[test]
    fn what_could_not_be_dialled_was_not_sent() {
        let address = "[::1]:0".parse().unwrap();
        let w = why_not_dialled(&ConnectError::InvalidRemoteAddress(address));
        assert_eq!(w.reason, Reason::NotSent);
        assert!(w.text.starts_with("[::1]:0 can not be dialled"), "{w}");
        assert_eq!(why_not_dialled(&ConnectError::EndpointStopping).reason, Reason::Shutdown);
    }
}
