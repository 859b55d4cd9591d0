//! `POST /v1/embeddings`: texts or tokens become vectors, in the order in which they came.

use axum::extract::State;
use axum::response::Json;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use utoipa::ToSchema;

use super::generation;
use super::prompts;
use crate::engine::EventStream;
use crate::engine::message::{Event, Input, Inputs, Prompt, Usage};
use crate::error::{Error, Kind};
use crate::http::App;
use crate::http::body::JsonBody;
use crate::http::error::Result;
use crate::http::fields::Fields;
use crate::models::capability::EMBEDDINGS;

/// As many as the original takes.
const MAX_INPUTS: usize = 2048;

/// Answers. When the client goes away, its stream of events is dropped, which cancels the work.
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "OpenAI", summary = "Texts become vectors",
    responses((status = 200, description = "in the order in which they came", body = VectorList))
)]
pub(crate) async fn handle(State(app): State<App>, JsonBody(fields): JsonBody) -> Result<Json<VectorList>> {
    let request = EmbeddingRequest::parse(fields)?;
    let EmbeddingRequest { model, inputs, is_list, encoding } = request;
    let model = generation::open(&app, &model).await?;
    model.require(EMBEDDINGS)?;
    let count = inputs.texts.len();
    let events = model.engine.embed(inputs)?;
    let (vectors, usage) = gather(events, count).await.map_err(|error| about_input(error, is_list))?;
    let data = vectors.into_iter().enumerate().map(|(index, vector)| encoding.object(index, vector));
    Ok(Json(VectorList {
        object: "list",
        data: data.collect(),
        model: model.id.clone(),
        usage: VectorUsage { prompt_tokens: usage.prompt_tokens, total_tokens: usage.prompt_tokens },
    }))
}

/// Waits for every vector.
async fn gather(mut events: EventStream, count: usize) -> Result<(Vec<Vec<f32>>, Usage), Error> {
    let bug = |what: &str| Error::new(Kind::Internal, format!("{what}: this is a bug"));
    let mut vectors = vec![Vec::new(); count];
    while let Some(event) = events.next().await {
        match event {
            Event::Accepted { .. } => {}
            Event::Vector { index, vector } => match vectors.get_mut(index as usize) {
                Some(place) => *place = vector,
                None => return Err(bug("there is a vector of an input that is not there")),
            },
            Event::Finished { usage, .. } if vectors.iter().all(|vector| !vector.is_empty()) => {
                return Ok((vectors, usage));
            }
            Event::Finished { .. } => return Err(bug("an input has no vector")),
            Event::Text { .. } | Event::Prompt { .. } => return Err(bug("an embedding is told as text")),
            Event::Failed(error) => return Err(error),
        }
    }
    Err(bug("a stream of events ended without its last one"))
}

/// The engine numbers every input; a client that sent one alone knows no number.
fn about_input(error: Error, is_list: bool) -> Error {
    match error.param.as_deref() {
        Some("input[0]") if !is_list => Error { param: Some("input".to_owned()), ..error },
        _ => error,
    }
}

/// What was asked for.
#[derive(Debug, PartialEq)]
pub(super) struct EmbeddingRequest {
    model: String,
    inputs: Inputs,
    is_list: bool,
    encoding: Encoding,
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Float,
    Base64,
}

impl EmbeddingRequest {
    pub(super) fn parse(mut fields: Fields) -> Result<Self> {
        let model = fields.required_text("model")?;
        let is_list = fields
            .peek("input")
            .and_then(serde_json::Value::as_array)
            .is_some_and(|list| list.iter().any(|element| !element.is_number()));
        let prompts = prompts::take(&mut fields, "input")?;
        if prompts.len() > MAX_INPUTS {
            let message = format!("`input` may have {MAX_INPUTS} elements; found {}", prompts.len());
            return Err(Error::invalid("input", message).into());
        }
        let texts = prompts.into_iter().enumerate().map(|(index, prompt)| {
            let path = if is_list { format!("input[{index}]") } else { "input".to_owned() };
            input(&path, prompt)
        });
        let texts = texts.collect::<Result<_>>()?;
        let dimensions = fields.count("dimensions", 1..=u32::MAX)?;
        let encoding = Encoding::take(&mut fields)?;
        // Bookkeeping of the original.
        fields.text("user")?;
        fields.finish()?;
        Ok(EmbeddingRequest { model, inputs: Inputs { texts, dimensions }, is_list, encoding })
    }
}

fn input(path: &str, prompt: Prompt) -> Result<Input> {
    match prompt {
        Prompt::Text(text) if text.is_empty() => {
            Err(Error::invalid(path, format!("`{path}` is an empty text: it has no vector")).into())
        }
        Prompt::Text(text) => Ok(Input::Text(text)),
        Prompt::Tokens(tokens) => Ok(Input::Tokens(tokens)),
        Prompt::Chat(_) => Err(Error::new(Kind::Internal, "an input is no chat: this is a bug").into()),
    }
}

impl Encoding {
    fn take(fields: &mut Fields) -> Result<Self> {
        match fields.text("encoding_format")?.as_deref() {
            None | Some("float") => Ok(Encoding::Float),
            Some("base64") => Ok(Encoding::Base64),
            Some(other) => {
                let message = format!("`encoding_format` must be float or base64; found {other:?}");
                Err(Error::invalid("encoding_format", message).into())
            }
        }
    }

    fn object(self, index: usize, vector: Vec<f32>) -> VectorObject {
        let embedding = match self {
            Encoding::Float => Vector::Numbers(vector),
            Encoding::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                Vector::Text(BASE64_STANDARD.encode(bytes))
            }
        };
        VectorObject { object: "embedding", index, embedding }
    }
}

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VectorList {
    object: &'static str,
    data: Vec<VectorObject>,
    model: String,
    usage: VectorUsage,
}

#[derive(Debug, Serialize, ToSchema)]
struct VectorObject {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    Text(String),
}

#[derive(Debug, Serialize, ToSchema)]
struct VectorUsage {
    prompt_tokens: u32,
    total_tokens: u32,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::params::tests::told;
    use super::*;

    fn parse(body: Value) -> Result<EmbeddingRequest> {
        EmbeddingRequest::parse(Fields::of("", body).unwrap())
    }

    #[test]
    fn what_was_asked_for_is_read() {
        let texts = |body: Value| parse(body).unwrap().inputs.texts;
        let text = |text: &str| Input::Text(text.to_owned());
        assert_eq!(texts(json!({"model": "m", "input": "a"})), [text("a")]);
        assert_eq!(texts(json!({"model": "m", "input": ["a", "b"]})), [text("a"), text("b")]);
        assert_eq!(texts(json!({"model": "m", "input": [1, 2]})), [Input::Tokens(vec![1, 2])]);
        let lists = texts(json!({"model": "m", "input": [[1], [2, 3]]}));
        assert_eq!(lists, [Input::Tokens(vec![1]), Input::Tokens(vec![2, 3])]);
        let all =
            json!({"model": "m", "input": "a", "encoding_format": "base64", "dimensions": 4, "user": "u"});
        let all = parse(all).unwrap();
        assert_eq!((all.encoding, all.inputs.dimensions), (Encoding::Base64, Some(4)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |field: &str, value: Value, param: &str| {
            let mut body = json!({"model": "m", "input": "a"});
            body[field] = value.clone();
            let (status, found, _) = told(parse(body));
            assert_eq!((status, found.as_str()), (400, param), "{field}: {value}");
        };
        check("input", json!(""), "input");
        check("input", json!(["a", ""]), "input[1]");
        check("input", json!([""]), "input[0]");
        check("input", json!([]), "input");
        check("input", json!([[1], []]), "input[1]");
        check("input", json!(vec!["a"; 2049]), "input");
        check("input", Value::Null, "input");
        check("dimensions", json!(0), "dimensions");
        check("encoding_format", json!("int8"), "encoding_format");
        check("truncate", json!(true), "truncate");
        check("model", Value::Null, "model");
    }

    #[test]
    fn base64_is_of_little_endian_floats() {
        let object = serde_json::to_value(Encoding::Base64.object(1, vec![1.0, -2.5])).unwrap();
        assert_eq!(object, json!({"object": "embedding", "index": 1, "embedding": "AACAPwAAIMA="}));
        let object = serde_json::to_string(&Encoding::Float.object(0, vec![0.1])).unwrap();
        assert_eq!(object, r#"{"object":"embedding","index":0,"embedding":[0.1]}"#);
    }

    #[test]
    fn one_alone_is_not_numbered() {
        let about = |is_list| about_input(Error::invalid("input[0]", ""), is_list).param.unwrap();
        assert_eq!((about(false).as_str(), about(true).as_str()), ("input", "input[0]"));
    }
}
