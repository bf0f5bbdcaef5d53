//! What the document of the API says of a route, written beside the route. Pure.

use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use berth_proto::filter::Known;
use berth_proto::state::ApiRole;
use utoipa::ToSchema;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{HttpMethod, Ref, RefOr, Required, ResponseBuilder, Schema};

use super::answer::STALE;
use super::list::MAX_LIMIT;
use crate::problem::Problem;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// Problems that every route may answer with.
pub const COMMON: [u16; 6] = [400, 401, 403, 429, 500, 503];

/// What `If-Match` may be: `*`, or entity tags (RFC 9110 section 13.1.1). Ours have no comma.
const TAGS: &str = r#"^(\*|(W/)?"[!#-+.-~-]*"( *, *(W/)?"[!#-+.-~-]*")*)$"#;

/// What most answers are, and the bodies of most requests.
const JSON: &str = "application/json";

/// Schemas by name.
pub type Schemas = Vec<(String, RefOr<Schema>)>;

/// Routes, each with what the document says of it.
#[derive(Default)]
pub struct Api {
    /// What answers.
    pub routes: Routes,
    /// Method, path and operation of each.
    pub operations: Vec<(HttpMethod, &'static str, OperationBuilder)>,
    /// Schemas that they name.
    pub schemas: Schemas,
}

impl Api {
    /// One more route.
    #[must_use]
    pub fn add<H, T>(mut self, method: Method, path: &'static str, role: ApiRole, handler: H, op: Op) -> Self
    where
        H: Handler<T, Site>,
        T: 'static,
    {
        let documented = match method {
            Method::POST => HttpMethod::Post,
            Method::PUT => HttpMethod::Put,
            Method::DELETE => HttpMethod::Delete,
            _ => HttpMethod::Get,
        };
        self.routes = self.routes.add(method, path, Needs::Role(role), handler);
        self.schemas.extend(op.schemas);
        self.operations.push((documented, path, op.operation));
        self
    }

    /// Those of another part too.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.routes = self.routes.merge(other.routes);
        self.operations.extend(other.operations);
        self.schemas.extend(other.schemas);
        self
    }
}

/// What the document says of one route.
pub struct Op {
    operation: OperationBuilder,
    schemas: Schemas,
}

impl Op {
    /// With an id that is unique in the document, the group that it belongs to, and a line about it.
    pub fn new(tag: &str, id: &str, summary: &str) -> Self {
        let operation = OperationBuilder::new().tag(tag).operation_id(Some(id)).summary(Some(summary));
        Self { operation, schemas: Schemas::new() }
    }

    /// More about it.
    #[must_use]
    pub fn about(self, text: &str) -> Self {
        Self { operation: self.operation.description(Some(text)), ..self }
    }

    fn parameter(self, parameter: impl Into<Parameter>) -> Self {
        Self { operation: self.operation.parameter(parameter), ..self }
    }

    /// A parameter of the path that names an object.
    #[must_use]
    pub fn word(self, name: &str) -> Self {
        self.path(name, "Id, unambiguous beginning of one, or name").problems(&[404, 422])
    }

    /// A parameter of the path.
    #[must_use]
    pub fn path(self, name: &str, about: &str) -> Self {
        let schema = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Path).required(Required::True);
        self.parameter(parameter.description(Some(about)).schema(Some(schema)))
    }

    /// A parameter of the query.
    #[must_use]
    pub fn query(self, (name, about): Known, schema: impl Into<RefOr<Schema>>) -> Self {
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query).required(Required::False);
        self.parameter(parameter.description(Some(about)).schema(Some(schema)))
    }

    /// A parameter that is true or false.
    #[must_use]
    pub fn flag(self, known: Known) -> Self {
        self.query(known, ObjectBuilder::new().schema_type(Type::Boolean))
    }

    /// A parameter that is text.
    #[must_use]
    pub fn text(self, known: Known) -> Self {
        self.query(known, ObjectBuilder::new().schema_type(Type::String))
    }

    /// A parameter that is a whole number from `least` on, with a limit other than that of its kind if there is one.
    #[must_use]
    pub fn number(self, known: Known, least: u64, most: Option<u64>) -> Self {
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least as f64));
        self.query(known, number.maximum(most.map(|most| most as f64)))
    }

    /// Parameters that may each come more than once.
    #[must_use]
    pub fn filters(self, known: &[Known]) -> Self {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        known.iter().fold(self, |op, known| op.query(*known, ArrayBuilder::new().items(text().build())))
    }

    /// The read may be of a state that is a little old.
    #[must_use]
    pub fn stale(self) -> Self {
        self.flag(STALE)
    }

    /// The answer is a page of a list.
    #[must_use]
    pub fn pages<T: ToSchema>(self, filters: &[Known]) -> Self {
        let items = self.filters(filters).paging().needs::<T>();
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
        let next = ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::SchemaType::from_iter([Type::String, Type::Null]));
        let page = ObjectBuilder::new()
            .property("items", ArrayBuilder::new().items(Ref::from_schema_name(T::name())))
            .property("index", number.description(Some("Log index of the state that was read")))
            .property("next", next.description(Some("Where the next page begins; null on the last one")))
            .required("items")
            .required("index")
            .required("next");
        items.answers_schema(200, "One page, in an order that does not change", page)
    }

    /// The parameters of a page.
    #[must_use]
    pub fn paging(self) -> Self {
        self.number(("limit", "Most items of the page [default: 100]"), 1, Some(MAX_LIMIT as u64))
            .text(("cursor", "`next` of the page before"))
            .stale()
    }

    /// The body is one `T`.
    #[must_use]
    pub fn takes<T: ToSchema>(self, required: bool) -> Self {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(T::name())));
        let required = if required { Required::True } else { Required::False };
        let body = RequestBodyBuilder::new().content(JSON, content.build()).required(Some(required));
        let op = self.needs::<T>().problems(&[413, 415, 422]);
        Self { operation: op.operation.request_body(Some(body.build())), ..op }
    }

    /// The body is text of one of these media types.
    #[must_use]
    pub fn takes_text(self, media: &[&str], about: &str) -> Self {
        let text = || ContentBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String)));
        let body = RequestBodyBuilder::new().description(Some(about)).required(Some(Required::True));
        let body = media.iter().fold(body, |body, media| body.content(*media, text().build()));
        let op = self.problems(&[413, 415, 422]);
        Self { operation: op.operation.request_body(Some(body.build())), ..op }
    }

    /// It may be refused for what there is already, or for what is not there.
    #[must_use]
    pub fn writes(self) -> Self {
        self.problems(&[409, 412, 422])
    }

    fn header(self, (name, about): Known, schema: ObjectBuilder, required: bool) -> Self {
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header);
        let parameter = parameter.required(if required { Required::True } else { Required::False });
        self.parameter(parameter.description(Some(about)).schema(Some(schema)))
    }

    /// The answer is a stream of server-sent events of `T` that goes on after an index.
    #[must_use]
    pub fn resumes<T: ToSchema>(self) -> Self {
        let index = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
        self.number(("after", "Everything after this index, e.g. that of a list"), 0, None)
            .header(("Last-Event-ID", "The same; counts more"), index, false)
            .streams::<T>("text/event-stream")
    }

    /// The answer goes on: one `T` after the other, as this media type has them.
    #[must_use]
    pub fn streams<T: ToSchema>(self, media: &str) -> Self {
        self.needs::<T>().response(200, response_of("The stream", media, Ref::from_schema_name(T::name())))
    }

    /// The answer is a WebSocket.
    #[must_use]
    pub fn upgrades(self, about: &str) -> Self {
        self.response(101, ResponseBuilder::new().description(about))
    }

    /// `If-Match` names the version that it is meant for.
    #[must_use]
    pub fn if_match(self, required: bool) -> Self {
        let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(TAGS)).examples(["\"42\""]);
        let about = "ETag of the object that the change was made from, or *";
        let op = self.header(("If-Match", about), schema, required).problems(&[412]);
        if required { op.problems(&[428]) } else { op }
    }

    /// The answer is one `T`.
    #[must_use]
    pub fn answers<T: ToSchema>(self, status: u16, about: &str) -> Self {
        self.needs::<T>().answers_schema(status, about, Ref::from_schema_name(T::name()))
    }

    /// The answer is one `T` with the tag of its version.
    #[must_use]
    pub fn answers_tagged<T: ToSchema>(self, about: &str) -> Self {
        let op = self.needs::<T>();
        let response = response_of(about, JSON, Ref::from_schema_name(T::name())).header("ETag", tag());
        op.response(200, response)
    }

    /// The answer is the `T` that was made, with its tag and place.
    #[must_use]
    pub fn creates<T: ToSchema>(self, about: &str) -> Self {
        let op = self.needs::<T>();
        let place = HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String)));
        let place = place.description(Some("Path of what was made")).build();
        let response = response_of(about, JSON, Ref::from_schema_name(T::name()));
        op.response(201, response.header("ETag", tag()).header("Location", place)).writes()
    }

    /// There is nothing to answer.
    #[must_use]
    pub fn answers_nothing(self, about: &str) -> Self {
        self.response(204, ResponseBuilder::new().description(about))
    }

    fn answers_schema(self, status: u16, about: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        self.response(status, response_of(about, JSON, schema))
    }

    fn response(self, status: u16, response: ResponseBuilder) -> Self {
        Self { operation: self.operation.response(status.to_string(), response), ..self }
    }

    /// It may answer with these problems, besides those that all may answer with.
    #[must_use]
    pub fn problems(self, statuses: &[u16]) -> Self {
        statuses.iter().fold(self, |op, status| op.response(*status, problem(*status)))
    }

    fn needs<T: ToSchema>(mut self) -> Self {
        self.schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.schemas);
        self
    }
}

/// The answer that is a problem of that status.
pub fn problem(status: u16) -> ResponseBuilder {
    let words = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name())));
    ResponseBuilder::new()
        .description(words.unwrap_or("A problem"))
        .content("application/problem+json", content.build())
}

fn response_of(about: &str, media: &str, schema: impl Into<RefOr<Schema>>) -> ResponseBuilder {
    let content = ContentBuilder::new().schema(Some(schema));
    ResponseBuilder::new().description(about).content(media, content.build())
}

fn tag() -> utoipa::openapi::Header {
    let text = ObjectBuilder::new().schema_type(Type::String);
    HeaderBuilder::new().schema(Some(text)).description(Some("The version, for If-Match")).build()
}
