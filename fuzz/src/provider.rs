//! An OpenID provider on loopback with one key, which signs any content for a target.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::{NOW, base64url};

/// The audience of the tokens.
pub const AUDIENCE: &str = "shop";

/// A provider. Its issuer name contains its port, which differs in each run.
pub struct Provider {
    issuer: String,
    key: Ed25519KeyPair,
}

impl Provider {
    pub(crate) async fn start() -> Self {
        let key =
            Ed25519KeyPair::from_seed_unchecked(b"the fuzzers' own provider key 32").expect("the seed has 32 bytes");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let issuer = format!("http://{}", listener.local_addr().expect("the listener has an address"));
        let discovery = json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") });
        let public = base64url(key.public_key());
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": public, "kid": "ed", "alg": "EdDSA", "use": "sig" });
        let documents = [discovery.to_string(), json!({ "keys": [jwk] }).to_string()];
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, documents.clone()));
            }
        });
        Self { issuer, key }
    }

    /// The issuer name.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The claims of a valid token.
    pub fn claims(&self, subject: &str) -> String {
        json!({ "iss": self.issuer, "sub": subject, "aud": AUDIENCE, "exp": NOW + 3600 }).to_string()
    }

    /// A token with these claims and a valid header.
    pub fn token(&self, claims: &str) -> String {
        self.token_of(br#"{"alg":"EdDSA","typ":"at+jwt","kid":"ed"}"#, claims.as_bytes())
    }

    /// A token of these bytes.
    pub fn token_of(&self, header: &[u8], claims: &[u8]) -> String {
        let message = format!("{}.{}", base64url(header), base64url(claims));
        let signature = base64url(self.key.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// Whether the provider has signed this message.
    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.key.public_key().as_ref()).verify(message, signature).is_ok()
    }
}

impl Provider {
    /// Whether the claims name this provider as the issuer.
    pub fn is_named_by(&self, claims: &Value) -> bool {
        claims["iss"] == self.issuer.as_str()
    }
}

/// Answers one request: the discovery document or the keys.
async fn answer(mut stream: TcpStream, [discovery, keys]: [String; 2]) {
    let mut read = Vec::new();
    while !read.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut read).await.is_ok_and(|more| more == 0) {
            return;
        }
    }
    let body = if read.starts_with(b"GET /keys") { keys } else { discovery };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let _ = stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
}
