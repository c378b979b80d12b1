//! Why a connection did not come about, or ended, in words that a user can act on. The reason is for records and metrics,
//! the text for people: it says what happened and what to do.
//!
//! With TLS 1.3 a dialler is connected before the other side has looked at its certificate, so a refused one shows up late,
//! as a connection closed by the other side with a TLS alert.

use std::fmt;

use quinn::{ApplicationClose, ConnectError, ConnectionError};

use crate::{frame::close, record::Reason};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    pub reason: Reason,
    pub text: String,
}

impl Why {
    fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a connection ended.
pub fn why(error: &ConnectionError) -> Why {
    use ConnectionError as E;
    match error {
        E::VersionMismatch => {
            Why::new(Reason::Refused, "it speaks no version of QUIC that we do: is this the address of a PAMS daemon?")
        }
        E::TransportError(e) => match alert(e.code.into()) {
            Some(alert) => of_our_alert(alert, &e.reason),
            None => Why::new(Reason::Refused, format!("it broke the QUIC protocol: {e}")),
        },
        E::ConnectionClosed(close) => {
            let code = u64::from(close.error_code);
            match alert(code) {
                Some(alert) => of_its_alert(alert, &printable(&close.reason)),
                None if code == CONNECTION_REFUSED => {
                    Why::new(Reason::Refused, "it takes no connections now: starting, stopping or full; try later")
                }
                None => Why::new(Reason::Refused, format!("it gave up the connection: {close}")),
            }
        }
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

/// TLS alerts (RFC 8446, 6.2) that tell users something.
mod tls {
    pub const HANDSHAKE_FAILURE: u8 = 40;
    pub const BAD_CERTIFICATE: u8 = 42;
    pub const UNSUPPORTED_CERTIFICATE: u8 = 43;
    pub const CERTIFICATE_REVOKED: u8 = 44;
    pub const CERTIFICATE_EXPIRED: u8 = 45;
    pub const CERTIFICATE_UNKNOWN: u8 = 46;
    pub const UNKNOWN_CA: u8 = 48;
    pub const ACCESS_DENIED: u8 = 49;
    pub const DECRYPT_ERROR: u8 = 51;
    pub const PROTOCOL_VERSION: u8 = 70;
    pub const UNRECOGNISED_NAME: u8 = 112;
    pub const CERTIFICATE_REQUIRED: u8 = 116;
    pub const NO_APPLICATION_PROTOCOL: u8 = 120;
}

/// The TLS alert in a QUIC error code, if it is one (RFC 9001, 4.8).
fn alert(code: u64) -> Option<u8> {
    code.checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok())
}

/// We did not accept the other side.
fn of_our_alert(alert: u8, detail: &str) -> Why {
    match alert {
        tls::CERTIFICATE_EXPIRED => Why::new(
            Reason::Clock,
            format!(
                "its certificate is not valid at this time ({detail}): check the clocks of both hosts, or it could not renew"
            ),
        ),
        // A root of the same name with another key makes a bad signature.
        tls::UNKNOWN_CA | tls::DECRYPT_ERROR => Why::new(
            Reason::Certificate,
            format!(
                "its certificate is from another cluster ({detail}): check the address, or join again with a token of that cluster"
            ),
        ),
        tls::BAD_CERTIFICATE => Why::new(
            Reason::Certificate,
            format!(
                "its certificate is not that of the peer meant ({detail}): check the id and the address in the roster"
            ),
        ),
        tls::CERTIFICATE_REQUIRED => Why::new(
            Reason::Certificate,
            format!("it showed no certificate ({detail}): it must join the cluster first"),
        ),
        _ if is_about_certificates(alert) => {
            Why::new(Reason::Certificate, format!("its certificate is not accepted: {detail}"))
        }
        _ => of_agreement(alert, detail),
    }
}

/// The other side did not accept us.
fn of_its_alert(alert: u8, detail: &str) -> Why {
    match alert {
        tls::CERTIFICATE_EXPIRED => Why::new(
            Reason::Clock,
            "to it our certificate is not valid at this time: check the clocks of both hosts, or let us reach our home to renew",
        ),
        tls::UNKNOWN_CA | tls::DECRYPT_ERROR => Why::new(
            Reason::Certificate,
            "it does not know who issued our certificate: it belongs to another cluster, or one of us must join again",
        ),
        tls::CERTIFICATE_REQUIRED => {
            Why::new(Reason::Certificate, "it wants a certificate and we have none: join with a token first")
        }
        tls::CERTIFICATE_REVOKED => {
            Why::new(Reason::Certificate, "our certificate was revoked: join again with a new token")
        }
        _ if is_about_certificates(alert) => Why::new(
            Reason::Certificate,
            format!("it does not accept our certificate (TLS alert {alert}{}{detail})", colon(detail)),
        ),
        _ => of_agreement(alert, detail),
    }
}

/// The two found no common ground.
fn of_agreement(alert: u8, detail: &str) -> Why {
    let text = match alert {
        tls::NO_APPLICATION_PROTOCOL => {
            "we have no protocol in common: another major version of PAMS, or no PAMS daemon at this address".to_owned()
        }
        tls::HANDSHAKE_FAILURE | tls::PROTOCOL_VERSION => "we have no version or cipher of TLS in common".to_owned(),
        tls::UNRECOGNISED_NAME => "it does not go by the name we dialled: check the id and the address".to_owned(),
        _ => format!("TLS failed (alert {alert}{}{detail})", colon(detail)),
    };
    Why::new(Reason::Refused, text)
}

fn is_about_certificates(alert: u8) -> bool {
    matches!(
        alert,
        tls::BAD_CERTIFICATE
            | tls::UNSUPPORTED_CERTIFICATE
            | tls::CERTIFICATE_REVOKED
            | tls::CERTIFICATE_EXPIRED
            | tls::CERTIFICATE_UNKNOWN
            | tls::UNKNOWN_CA
            | tls::ACCESS_DENIED
            | tls::DECRYPT_ERROR
            | tls::CERTIFICATE_REQUIRED
    )
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

/// What the other side wrote: cut short, and nothing in it that a terminal would obey.
fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(200).collect()
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
        assert!(closed_with_alert(116).text.contains("join with a token"));
        let other = closed_with_alert(42);
        assert_eq!(other.reason, Reason::Certificate);
        assert_eq!(
            other.text, "it does not accept our certificate (TLS alert 42: [2Jdetail)",
            "nothing for the terminal"
        );
        assert_eq!(closed_with_alert(120).reason, Reason::Refused);
        assert_eq!(closed_with_alert(255).reason, Reason::Refused);
    }

    #[test]
    fn closed_on_purpose() {
        assert_eq!(closed_by_application(close::REJECTED, "role server").to_string(), "it turned us away: role server");
        assert_eq!(closed_by_application(close::GOODBYE, "").text, "it left");
        assert_eq!(closed_by_application(77, "").text, "it closed the connection with code 77");
        assert_eq!(closed_by_application(77, "").reason, Reason::Refused);
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
