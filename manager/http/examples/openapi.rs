//! Prints the OpenAPI document of the API: `cargo run -p berth-http --example openapi > openapi.json`.

fn main() {
    println!("{:#}", berth_http::api::openapi());
}
