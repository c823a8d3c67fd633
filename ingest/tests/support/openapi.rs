//! Reads an OpenAPI document and holds answers against it.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;

/// An OpenAPI document.
pub struct Document(pub Value);

/// One request that the document shows.
pub struct Example {
    pub path: String,
    pub name: String,
    pub media_type: String,
    pub body: String,
}

impl Document {
    pub fn parse(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap())
    }

    /// Follows a reference within the document.
    pub fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => {
                let pointer = reference.strip_prefix('#').unwrap();
                self.resolve(
                    self.0
                        .pointer(pointer)
                        .unwrap_or_else(|| panic!("{reference}")),
                )
            }
            None => value,
        }
    }

    /// Every path and method, as `GET /v1/…`, in order.
    pub fn operations(&self) -> Vec<String> {
        let mut operations = Vec::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                operations.push(format!("{} {path}", method.to_uppercase()));
            }
        }
        operations.sort();
        operations
    }

    pub fn operation(&self, method: &str, path: &str) -> &Value {
        let operation = &self.0["paths"][path][method.to_lowercase()];
        assert!(operation.is_object(), "{method} {path} is not documented");
        operation
    }

    /// Every request body that the document shows.
    pub fn examples(&self) -> Vec<Example> {
        let mut examples = Vec::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            let Some(content) = item["post"]["requestBody"]["content"].as_object() else {
                assert!(item["post"].is_null(), "{path} documents no request body");
                continue;
            };
            for (media_type, content) in content {
                let mut push = |name: &str, value: &Value| {
                    let body = value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned);
                    let (path, media_type) = (path.clone(), media_type.clone());
                    let name = name.to_owned();
                    examples.push(Example {
                        path,
                        name,
                        media_type,
                        body,
                    });
                };
                if let Some(named) = content["examples"].as_object() {
                    named
                        .iter()
                        .for_each(|(name, example)| push(name, &example["value"]));
                } else {
                    push("example", &content["example"]);
                }
            }
        }
        examples
    }

    /// Holds an answer against its operation: the status, the media type and every property must be documented.
    pub fn check(&self, method: &str, path: &str, status: u16, media_type: &str, body: &str) {
        let operation = self.operation(method, path);
        let response = &operation["responses"][status.to_string()];
        let place = format!("{method} {path} {status}");
        assert!(!response.is_null(), "{place} is not documented: {body}");
        let response = self.resolve(response);
        let media_type = media_type.split(';').next().unwrap();
        let content = &response["content"][media_type];
        assert!(
            !content.is_null(),
            "{place}: {media_type} is not documented"
        );
        match media_type {
            "application/x-ndjson" => {
                // The lines are results of the batch that the same status documents.
                let batch = self.resolve(&response["content"]["application/json"]["schema"]);
                let line_schema = &batch["properties"]["results"]["items"];
                for line in body.lines() {
                    let value = serde_json::from_str(line).unwrap();
                    self.conforms(line_schema, &value)
                        .unwrap_or_else(|e| panic!("{place}: {e}: {line}"));
                }
            }
            "text/plain" => {}
            _ => {
                let value = serde_json::from_str(body).unwrap();
                let outcome = self.conforms(&content["schema"], &value);
                outcome.unwrap_or_else(|error| panic!("{place}: {error}: {body}"));
            }
        }
    }

    /// Whether a value is what a schema says, with no property beyond those that it lists.
    pub fn conforms(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.resolve(schema);
        for any in ["oneOf", "anyOf"] {
            if let Some(choices) = schema[any].as_array() {
                let outcomes: Vec<_> = choices.iter().map(|c| self.conforms(c, value)).collect();
                let fits = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
                return if fits == 1 {
                    Ok(())
                } else {
                    Err(format!("{fits} choices fit: {outcomes:?}"))
                };
            }
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            return Err(format!("{value} is none of {allowed:?}"));
        }
        if schema
            .get("const")
            .is_some_and(|constant| constant != value)
        {
            return Err(format!("{value} is not {}", schema["const"]));
        }
        let is_type = |name: &str| match name {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            _ => value.is_null(),
        };
        let types = match &schema["type"] {
            Value::String(name) => vec![name.as_str()],
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        };
        if !types.is_empty() && !types.iter().any(|name| is_type(name)) {
            return Err(format!("{value} is not of type {types:?}"));
        }
        if let (Some(least), Some(number)) = (schema["minimum"].as_f64(), value.as_f64())
            && number < least
        {
            return Err(format!("{value} is less than {least}"));
        }
        if let (Some(most), Some(number)) = (schema["maximum"].as_f64(), value.as_f64())
            && number > most
        {
            return Err(format!("{value} is more than {most}"));
        }
        if let Some(items) = value.as_array() {
            for (index, item) in items.iter().enumerate() {
                self.conforms(&schema["items"], item)
                    .map_err(|e| format!("[{index}] {e}"))?;
            }
        }
        self.conforms_object(schema, value)
    }

    fn conforms_object(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let (Some(properties), Some(fields)) =
            (schema["properties"].as_object(), value.as_object())
        else {
            return Ok(());
        };
        for required in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(required.as_str().unwrap()) {
                return Err(format!("{required} is missing"));
            }
        }
        for (name, field) in fields {
            let property = properties
                .get(name)
                .ok_or(format!("{name} is not documented"))?;
            self.conforms(property, field)
                .map_err(|e| format!("{name}: {e}"))?;
        }
        Ok(())
    }
}

/// `GET /v1/…` for every `.route("…", get(…))` of a router's source, in order.
pub fn routed(source: &str) -> Vec<String> {
    let mut operations = Vec::new();
    for call in source.split(".route(").skip(1) {
        let path = call.split('"').nth(1).unwrap();
        let methods = call.split_once("\",").unwrap().1.trim_start();
        let method = methods.split('(').next().unwrap().to_uppercase();
        assert!(
            ["GET", "POST"].contains(&method.as_str()),
            "{method} {path}"
        );
        operations.push(format!("{method} {path}"));
    }
    operations.sort();
    operations
}
