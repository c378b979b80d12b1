//! What a failed handshake means and what to do about it, for the record's reason and for people.
//!
//! QUIC keeps of a TLS error its alert and its text, and of the other side's error the alert alone, so there are two ways
//! in and one set of answers. It explains; it does not decide.

use std::time::Duration;

use quinn::ConnectionError;
use rustls::{AlertDescription, CertificateError, Error, pki_types::UnixTime};

use super::{DAY, GRACE_SECONDS, trust::JoinError};
use crate::record::Reason;

/// First code of TLS alerts among QUIC's error codes (RFC 9001, 4.8).
const CRYPTO: u64 = 0x100;

/// Why a handshake failed, and what to do about it. The reason is [`Reason::Certificate`] or [`Reason::Clock`].
pub fn explain(error: &Error) -> (Reason, String) {
    use CertificateError::*;
    match error {
        Error::InvalidCertificate(NotValidYetContext { time, not_before }) => not_yet(Some(apart(*not_before, *time))),
        Error::InvalidCertificate(NotValidYet) => not_yet(None),
        Error::InvalidCertificate(ExpiredContext { time, not_after }) => expired(Some(apart(*time, *not_after))),
        Error::InvalidCertificate(Expired) => expired(None),
        Error::InvalidCertificate(NotValidForNameContext { expected, presented }) => {
            other_peer(&format!("{} was meant, {} answered", expected.to_str(), presented.join(" or ")))
        }
        Error::InvalidCertificate(NotValidForName) => other_peer("its certificate has another name"),
        Error::InvalidCertificate(UnknownIssuer | BadSignature) => certificate(FOREIGN.into()),
        Error::InvalidCertificate(Other(other)) if other.0.is::<JoinError>() => certificate(other.to_string()),
        Error::NoCertificatesPresented => certificate(ABSENT.into()),
        Error::AlertReceived(alert) => alerted(u8::from(*alert)),
        other => certificate(format!("the handshake failed: {other}")),
    }
}

/// As [`explain`], for a connection that QUIC gave up; `None` if that was not because of TLS.
pub fn explain_quic(error: &ConnectionError) -> Option<(Reason, String)> {
    let alert = |code: u64| code.checked_sub(CRYPTO).and_then(|alert| u8::try_from(alert).ok());
    match error {
        ConnectionError::TransportError(e) => Some(raised(alert(e.code.into())?, &e.reason)),
        ConnectionError::ConnectionClosed(e) => Some(alerted(alert(e.error_code.into())?)),
        _ => None,
    }
}

const FOREIGN: &str = "the other side belongs to another cluster: its certificate does not lead to our root; join both to \
                       the same one";
const ABSENT: &str = "the other side showed no certificate: join it first, with a token of our pams-server";
const CLOCKS: &str = "compare `date -u` on both hosts and set the wrong clock (NTP keeps it right)";

/// We turned the other side away: by the alert that we raised and rustls's text.
pub(super) fn raised(alert: u8, text: &str) -> (Reason, String) {
    let text = text.strip_prefix("invalid peer certificate: ").unwrap_or(text);
    match AlertDescription::from(alert) {
        AlertDescription::CertificateExpired if text.contains("not valid yet") || text == "NotValidYet" => {
            not_yet(seconds(text))
        }
        AlertDescription::CertificateExpired => expired(seconds(text)),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => certificate(FOREIGN.into()),
        AlertDescription::CertificateRequired => certificate(ABSENT.into()),
        AlertDescription::BadCertificate if text.contains("not valid for") => other_peer(text),
        _ => {
            let known = [JoinError::WrongRoot, JoinError::NotServer];
            let join = known.iter().find(|e| text.contains(&format!("{e:?}")) || text.contains(&e.to_string()));
            certificate(join.map_or_else(|| format!("the handshake failed: {text}"), JoinError::to_string))
        }
    }
}

/// The other side turned us away.
fn alerted(alert: u8) -> (Reason, String) {
    match AlertDescription::from(alert) {
        AlertDescription::CertificateExpired => {
            let text = "by the other side's clock our certificate is not yet valid, or expired too long ago";
            (Reason::Clock, format!("{text}: {CLOCKS}; if both are right, join this agent again with a new token"))
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => certificate(
            "the other side does not know our root: it belongs to another cluster; join both to the same one".into(),
        ),
        AlertDescription::CertificateRequired => {
            certificate("the other side wants a certificate and we have none: join this agent first".into())
        }
        AlertDescription::NoApplicationProtocol => {
            certificate("the other side speaks another version of PAMS, or is not PAMS: check address and versions".into())
        }
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => certificate(
            "the other side does not accept our certificate: its log says why; if it is right, join again with a new token"
                .into(),
        ),
        other => certificate(format!("the other side refused the handshake: {other:?}; its log says why")),
    }
}

fn certificate(text: String) -> (Reason, String) {
    (Reason::Certificate, text)
}

fn other_peer(what: &str) -> (Reason, String) {
    certificate(format!("another peer answers at this address ({what}): check the address or the id in the roster"))
}

fn not_yet(ahead: Option<Duration>) -> (Reason, String) {
    let by = ahead.map_or(String::new(), |d| format!(" for another {}", humantime::format_duration(d)));
    (Reason::Clock, format!("by our clock the other side's certificate is not valid yet{by}: {CLOCKS}"))
}

fn expired(ago: Option<Duration>) -> (Reason, String) {
    let by = ago.map_or(String::new(), |d| format!(" {} ago", humantime::format_duration(d)));
    let days = GRACE_SECONDS / DAY;
    certificate(format!(
        "the other side's certificate expired{by}, over the {days} days of grace: join it again with a new token, unless \
         a clock is off: {CLOCKS}"
    ))
}

fn apart(later: UnixTime, earlier: UnixTime) -> Duration {
    Duration::from_secs(later.as_secs().saturating_sub(earlier.as_secs()))
}

/// The figure in rustls's `(N seconds ago)` or `(N seconds in future)`.
fn seconds(text: &str) -> Option<Duration> {
    let (_, rest) = text.rsplit_once('(')?;
    rest.split_once(" seconds")?.0.parse().ok().map(Duration::from_secs)
}
