//! Images in a registry.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_RANGE, HeaderValue, RANGE, WWW_AUTHENTICATE};
use reqwest::{Response, Url};

use super::Scope;
use super::sink::BlobSink;
use crate::image::digest::Digest;
use crate::image::error::ImageError;
use crate::image::limits::ImageLimits;
use crate::image::manifest::{
    DOCKER_LIST_TYPE, DOCKER_MANIFEST_TYPE, Descriptor, INDEX_TYPE, MANIFEST_TYPE, malformed,
};
use crate::image::reference::DOCKER_HUB;
use crate::image::registry::{
    Challenge, ContentRange, Credential, OutOfReach, Reach, Registries, Resolver, Token,
    secret_header,
};

/// A registry that does not take a connection within this time is not there.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a transfer may stand still: a disk under load stalls for seconds, not for a minute.
const READ_DEADLINE: Duration = Duration::from_mins(1);
/// Registries send to where blobs really lie, and that may send on once more.
const REDIRECTS_MAX: usize = 5;
/// How often a blob is tried again without one more byte of it coming.
const TRIES_MAX: u32 = 4;
/// Before the first try again; doubled before each further one.
const TRY_PAUSE: Duration = Duration::from_millis(200);
/// A token server's answer.
const TOKEN_ANSWER_BYTES: u64 = 128 << 10;
/// Where the images of docker.io are.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// One repository in a registry, for as long as one image is fetched from it.
#[derive(Debug)]
pub(in crate::image) struct Repository {
    client: reqwest::Client,
    host: String,
    name: String,
    base: String,
    reach: Reach,
    credential: Option<Credential>,
    authorization: Mutex<Option<HeaderValue>>,
    knows_us: AtomicBool,
}

/// What a request for a blob came to.
enum Part {
    Done,
    /// Less came than there is.
    Cut(ImageError),
}

impl Repository {
    pub(super) fn open(
        host: &str,
        name: &str,
        registries: &Registries,
        credential: Option<&Credential>,
    ) -> Result<Self, ImageError> {
        // What names an authority for this machine's own registry speaks TLS with it.
        let own_authority = registries.certs_dir.as_ref();
        let plain = is_loopback(host) && !own_authority.is_some_and(|d| d.join(host).is_dir());
        let credential = match credential {
            Some(theirs) => Some(theirs.clone()),
            None => registries.credential(host, name)?,
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("tradewind/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_DEADLINE)
            .read_timeout(READ_DEADLINE)
            .redirect(redirects(registries.reach.clone()))
            .dns_resolver(Resolver(registries.reach.clone()))
            .tls_backend_preconfigured(registries.tls(host)?);
        if is_loopback(host) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|source| ImageError::Fetch {
            url: host.to_owned(),
            source,
        })?;
        let scheme = if plain { "http" } else { "https" };
        let at = if host == DOCKER_HUB {
            DOCKER_HUB_HOST
        } else {
            host
        };
        let base = format!("{scheme}://{at}/v2/{name}");
        let url = Url::parse(&base).map_err(|e| malformed("the registry's name", e.to_string()))?;
        registries.reach.check(&url)?;
        Ok(Self {
            client,
            host: host.to_owned(),
            name: name.to_owned(),
            base,
            reach: registries.reach.clone(),
            credential,
            authorization: Mutex::new(None),
            knows_us: AtomicBool::new(false),
        })
    }

    /// Tells whether it was told who asks. It never forgets: what came while this is false came to nobody in
    /// particular.
    pub(super) fn knows_us(&self) -> bool {
        self.knows_us.load(Ordering::Relaxed)
    }

    /// Tells whether it may yet be told who asks.
    pub(super) fn may_know_us(&self) -> bool {
        self.credential.is_some()
    }

    /// Returns what those who may read here have in common.
    pub(super) fn scope(&self) -> Scope {
        Scope::of("registry", &format!("{}/{}", self.host, self.name))
    }

    /// Reads a manifest or an index, by tag or digest.
    pub(super) async fn manifest(
        &self,
        name: &str,
        limits: &ImageLimits,
    ) -> Result<Vec<u8>, ImageError> {
        let accept = [
            MANIFEST_TYPE,
            INDEX_TYPE,
            DOCKER_MANIFEST_TYPE,
            DOCKER_LIST_TYPE,
        ]
        .join(", ");
        let url = format!("{}/manifests/{name}", self.base);
        let response = self.get(&url, Some(&accept), 0).await?;
        read_bounded(response, &url, limits.document_bytes).await
    }

    /// Reads a small blob whole.
    pub(super) async fn document(
        &self,
        digest: &Digest,
        limits: &ImageLimits,
    ) -> Result<Vec<u8>, ImageError> {
        let url = self.blob_url(digest);
        let response = self.get(&url, None, 0).await?;
        read_bounded(response, &url, limits.document_bytes).await
    }

    /// Writes a blob to `path`, going on after what lies there already.
    pub(super) async fn blob(
        &self,
        descriptor: &Descriptor,
        path: &Path,
    ) -> Result<(), ImageError> {
        let (wanted, to) = (descriptor.clone(), path.to_owned());
        // Hashes what is there, which may be gigabytes.
        let mut sink = super::blocking(move || BlobSink::resume(&to, &wanted)).await?;
        let resumed = sink.length() > 0;
        self.fill(&mut sink, descriptor).await?;
        match sink.finish(descriptor) {
            // What lay there from before was bad, for example after a power cut.
            Err(ImageError::DigestMismatch { .. }) if resumed => {
                sink.restart()?;
                self.fill(&mut sink, descriptor).await?;
                sink.finish(descriptor)
            }
            other => other,
        }
    }

    /// Asks until all of the blob is there.
    async fn fill(&self, sink: &mut BlobSink, descriptor: &Descriptor) -> Result<(), ImageError> {
        let (mut most, mut tries, mut pause) = (sink.length(), 0, TRY_PAUSE);
        while sink.length() < descriptor.size {
            let cut = match self.fetch_part(sink, descriptor).await? {
                Part::Done => return Ok(()),
                Part::Cut(error) => error,
            };
            if sink.length() > most {
                (most, tries, pause) = (sink.length(), 0, TRY_PAUSE);
            }
            tries += 1;
            if tries > TRIES_MAX {
                return Err(cut);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(())
    }

    async fn fetch_part(
        &self,
        sink: &mut BlobSink,
        descriptor: &Descriptor,
    ) -> Result<Part, ImageError> {
        let url = self.blob_url(&descriptor.digest);
        let mut response = match self.get(&url, None, sink.length()).await {
            Ok(response) => response,
            Err(e @ ImageError::Fetch { .. }) => return Ok(Part::Cut(e)),
            Err(e @ ImageError::Refused { .. }) if e.blame() == crate::Blame::Transient => {
                return Ok(Part::Cut(e));
            }
            // It cannot go on where we are.
            Err(ImageError::Refused { status: 416, .. }) if sink.length() > 0 => {
                sink.restart()?;
                self.get(&url, None, 0).await?
            }
            Err(e) => return Err(e),
        };
        if !goes_on(&response, sink.length(), descriptor) {
            sink.restart()?;
            if response.status().as_u16() == 206 {
                // Some other part than we asked for: ask for all of it.
                response = self.get(&url, None, 0).await?;
            }
        }
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => sink.write(&chunk, descriptor)?,
                Ok(None) if sink.length() == descriptor.size => return Ok(Part::Done),
                Ok(None) => return Ok(Part::Cut(sink.wrong_size(descriptor))),
                Err(source) => return Ok(Part::Cut(ImageError::Fetch { url, source })),
            }
        }
    }

    fn blob_url(&self, digest: &Digest) -> String {
        format!("{}/blobs/{digest}", self.base)
    }

    /// Asks for `url` from byte `from` on, and tells who asks where the registry wants to know.
    async fn get(
        &self,
        url: &str,
        accept: Option<&str>,
        from: u64,
    ) -> Result<Response, ImageError> {
        for may_authorize in [true, false] {
            let mut request = self.client.get(url);
            if let Some(accept) = accept {
                request = request.header(ACCEPT, accept);
            }
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let known = self.authorization.lock().expect("no holder panics").clone();
            if let Some(header) = known {
                request = request.header(AUTHORIZATION, header);
            }
            let response = request.send().await.map_err(failed(url))?;
            match response.status().as_u16() {
                200 | 206 => return Ok(response),
                401 if may_authorize => self.authorize(&response).await?,
                401 | 403 => return Err(self.denied()),
                404 => {
                    return Err(ImageError::Missing {
                        what: url.to_owned(),
                    });
                }
                status => {
                    return Err(ImageError::Refused {
                        status,
                        url: url.to_owned(),
                    });
                }
            }
        }
        Err(self.denied())
    }

    /// Meets the challenge of `response`, for this and later requests.
    async fn authorize(&self, response: &Response) -> Result<(), ImageError> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenges: Vec<Challenge> = headers
            .filter_map(|header| header.to_str().ok())
            .flat_map(Challenge::parse)
            .collect();
        let bearer = challenges.iter().find(|c| **c != Challenge::Basic);
        let header = match (bearer.or(challenges.first()), &self.credential) {
            (Some(_), Some(token @ Credential::Token { .. })) => token.header(),
            (
                Some(Challenge::Bearer {
                    realm,
                    service,
                    scope,
                }),
                credential,
            ) => {
                let url = self.token_url(realm, service.as_deref(), scope.as_deref())?;
                let token = self.token(url, credential.as_ref()).await?;
                secret_header(&format!("Bearer {}", token.text()))
            }
            (Some(Challenge::Basic), Some(credential)) => credential.header(),
            (Some(Challenge::Basic), None) => None,
            (None, _) => {
                return Err(self.denied_because("it does not say how to tell it who we are"));
            }
        };
        let header = header.ok_or_else(|| self.denied())?;
        *self.authorization.lock().expect("no holder panics") = Some(header);
        if self.credential.is_some() {
            self.knows_us.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Returns where to ask for a token: never in clear text, but on this machine.
    fn token_url(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<Url, ImageError> {
        let mut url = Url::parse(realm)
            .map_err(|e| malformed("the registry's challenge", format!("its realm: {e}")))?;
        let host = url.host_str().unwrap_or_default();
        let here = is_loopback(host) && is_loopback(&self.host);
        let private = url.scheme() == "https" || (url.scheme() == "http" && here);
        if !private {
            return Err(self.denied_because("it sends us elsewhere for a token, without TLS"));
        }
        self.reach.check(&url)?;
        let own_scope = format!("repository:{}:pull", self.name);
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        query.append_pair("scope", scope.unwrap_or(&own_scope));
        drop(query);
        Ok(url)
    }

    async fn token(&self, url: Url, credential: Option<&Credential>) -> Result<Token, ImageError> {
        let name = url.origin().ascii_serialization();
        let mut request = self.client.get(url);
        if let Some(header) = credential.and_then(Credential::header) {
            request = request.header(AUTHORIZATION, header);
        }
        let response = request.send().await.map_err(failed(&name))?;
        match response.status().as_u16() {
            200 => {}
            401 | 403 => return Err(self.denied()),
            status => return Err(ImageError::Refused { status, url: name }),
        }
        let bytes = read_bounded(response, &name, TOKEN_ANSWER_BYTES).await?;
        let problem = || "it holds no token".to_owned();
        Token::parse(&bytes).ok_or_else(|| malformed("the token server's answer", problem()))
    }

    fn denied(&self) -> ImageError {
        self.denied_because(if self.credential.is_some() {
            "it does not take the credentials there are for it"
        } else {
            "it wants credentials, and there are none for it"
        })
    }

    fn denied_because(&self, reason: &str) -> ImageError {
        ImageError::Denied {
            host: self.host.clone(),
            repository: self.name.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// Tells whether `response` is the part from byte `length` on, or all of it where there is nothing yet.
fn goes_on(response: &Response, length: u64, descriptor: &Descriptor) -> bool {
    if response.status().as_u16() != 206 {
        return length == 0;
    }
    let header = response.headers().get(CONTENT_RANGE);
    let range = header.and_then(|h| ContentRange::parse(h.to_str().ok()?));
    range.is_some_and(|r| r.first == length && r.total.is_none_or(|t| t == descriptor.size))
}

/// From TLS to TLS only; in clear text only where it began so, which is on this machine, and stays there.
fn redirects(reach: Reach) -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(move |attempt| {
        let before = attempt.previous().last().map(Url::scheme);
        let url = attempt.url();
        let local = before == Some("http") && url.host_str().is_some_and(is_loopback);
        if let Err(error) = reach.check(url) {
            attempt.error(error)
        } else if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error("it sends us around in circles")
        } else if url.scheme() == "https" || local {
            attempt.follow()
        } else {
            attempt.error("it sends us to where there is no TLS")
        }
    })
}

impl From<OutOfReach> for ImageError {
    fn from(OutOfReach { host }: OutOfReach) -> Self {
        Self::OutOfReach { host }
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn failed(url: &str) -> impl FnOnce(reqwest::Error) -> ImageError {
    let url = url.to_owned();
    move |source| match OutOfReach::among(&source) {
        Some(OutOfReach { host }) => ImageError::OutOfReach { host: host.clone() },
        None => ImageError::Fetch {
            url,
            source: source.without_url(),
        },
    }
}

async fn read_bounded(
    mut response: Response,
    url: &str,
    limit: u64,
) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    loop {
        let chunk = response.chunk().await.map_err(failed(url))?;
        let Some(chunk) = chunk else {
            return Ok(bytes);
        };
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(ImageError::TooMuch {
                what: "bytes in a document",
                limit,
            });
        }
        bytes.extend_from_slice(&chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_this_machine_is_loopback() {
        for here in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "[::1]:5000",
            "[::1]",
            "127.9.9.9",
        ] {
            assert!(is_loopback(here), "{here}");
        }
        for far in [
            "localhost.example:5000",
            "10.0.0.1:5000",
            "127.0.0.1.example",
            "registry.example",
            "[fe80::1]:1",
        ] {
            assert!(!is_loopback(far), "{far}");
        }
    }
}
