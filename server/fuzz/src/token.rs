//! Text that somebody pasted as a join token: what is taken reads back from its own print, what is not is explained.

use pams_shared::identity::{Address, Token};

pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<Token>() {
        Ok(token) => {
            let printed = token.to_string();
            assert_eq!(printed.parse().as_ref(), Ok(&token));
            let secret = printed.rsplit_once('@').and_then(|(head, _)| head.rsplit_once('.'));
            let (_, secret) = secret.expect("a print has a secret before its addresses");
            let logged = format!("{:?}", Token { addresses: Vec::new(), ..token.clone() });
            assert!(!logged.contains(secret), "logs do not show secrets");
            for address in &token.addresses {
                assert_eq!(address.to_string().parse::<Address>().as_ref(), Ok(address));
            }
        }
        Err(error) => {
            let told = error.to_string();
            assert!(!told.is_empty() && !told.contains('\n') && told.len() < 4_096, "{told}");
        }
    }
}
