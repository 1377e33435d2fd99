//! Questions about a bucket of S3 as a whole, such as its lifecycle rules, which `object_store` has
//! no operation for. They are signed by its means and with the credentials that it finds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3ConfigKey, AwsAuthorizer};
use object_store::client::{
    HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector,
};
use object_store::path::Path;
use object_store::signer::Signer;

use super::{S3Settings, StoreError, chain_text, other, s3_builder};

/// For how long an address is signed that is not used but to learn the bucket's.
const SIGNED_FOR: Duration = Duration::from_secs(60);

/// A bucket of S3.
#[derive(Debug)]
pub struct Bucket {
    name: String,
    region: String,
    is_signed: bool,
    s3: Arc<AmazonS3>,
    http: HttpClient,
}

/// What a bucket answered, whatever the status is.
#[derive(Debug, Clone)]
pub struct BucketAnswer {
    /// Status of HTTP.
    pub status: u16,
    /// Its clock, as the header `Date` has it.
    pub date: Option<String>,
    /// XML, as a rule.
    pub body: Bytes,
}

impl Bucket {
    /// Opens the bucket of an address `s3://bucket/prefix`. No request is made.
    pub fn open(address: &str, settings: &S3Settings) -> Result<Self, StoreError> {
        let rest = address.strip_prefix("s3://").unwrap_or_default();
        let name = rest.split('/').next().unwrap_or_default();
        let builder = s3_builder(address, name, settings)?;
        let value = |key| builder.get_config_value(&key);
        let region = value(AmazonS3ConfigKey::Region).unwrap_or_default();
        let is_signed = value(AmazonS3ConfigKey::SkipSignature).as_deref() != Some("true");
        let options = ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(2))
            .with_timeout(Duration::from_secs(10))
            // The settings say so of the objects.
            .with_allow_http(true);
        let http = ReqwestConnector::default().connect(&options);
        let refused = |error| other(address, chain_text(&error));
        Ok(Self {
            name: name.to_owned(),
            region,
            is_signed,
            s3: Arc::new(builder.build().map_err(refused)?),
            http: http.map_err(refused)?,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks for a part of what is set for it: `lifecycle`, `versioning`.
    pub async fn ask(&self, question: &str) -> Result<BucketAnswer, StoreError> {
        let away = |reason: String| StoreError::Unavailable {
            key: question.to_owned(),
            reason,
        };
        // Only `object_store` knows where the bucket is: below the endpoint or a host of its own.
        let top = Path::default();
        let url = self.s3.signed_url(Default::default(), &top, SIGNED_FOR);
        let mut url = url.await.map_err(|error| away(chain_text(&error)))?;
        url.set_query(Some(question));
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = url
            .as_str()
            .parse()
            .map_err(|error| other(url.as_str(), format!("not an address: {error}")))?;
        if self.is_signed {
            let credential = self.s3.credentials().get_credential().await;
            let credential = credential.map_err(|error| away(chain_text(&error)))?;
            AwsAuthorizer::new(&credential, "s3", &self.region).authorize(&mut request, None);
        }
        let answer = self.http.execute(request).await;
        let answer = answer.map_err(|error| away(chain_text(&error)))?;
        let date = answer.headers().get("date");
        let date = date.and_then(|date| Some(date.to_str().ok()?.to_owned()));
        let status = answer.status().as_u16();
        let body = answer.into_body().bytes().await;
        Ok(BucketAnswer {
            status,
            date,
            body: body.map_err(|error| away(chain_text(&error)))?,
        })
    }
}
