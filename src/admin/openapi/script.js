// Shows the document. Its texts are inserted as text, never as markup.
"use strict";

const make = (name, attributes, ...children) => {
  const element = document.createElement(name);
  Object.assign(element, attributes);
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
};

// Turns text between backquotes into code.
const inline = (text) => text.split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));
const prose = (text) => make("div", {}, ...text.split("\n\n").map((paragraph) => make("p", {}, ...inline(paragraph))));

// Resolves a reference such as #/components/schemas/Scan.
const resolved = (api, value) => (value?.$ref ? value.$ref.split("/").slice(1).reduce((at, key) => at[key], api) : value);

// The rules for a value, in one line.
const rule = (schema) => {
  const types = [].concat(schema.type ?? []).join(" or ");
  const words = [schema.enum ? "" : types, schema.format];
  if (schema.minLength || schema.maxLength) words.push(`${schema.minLength ?? 0} to ${schema.maxLength ?? "any number of"} characters`);
  if (schema.minimum !== undefined || schema.maximum !== undefined) words.push(`${schema.minimum ?? ""} to ${schema.maximum ?? "…"}`);
  if (schema.default !== undefined) words.push(`default ${schema.default}`);
  if (schema.pattern) words.push(schema.pattern);
  return words.filter(Boolean).join(", ");
};

const choices = (values) => make("ul", {}, ...values.map((value) => make("li", {}, make("code", {}, String(value)))));

// Shows a schema as a table of its members. A type inside itself is shown by its name only.
const shape = (api, schema, within = []) => {
  const name = schema?.$ref?.split("/").pop();
  if (name && within.includes(name)) return make("code", {}, name);
  const inner = resolved(api, schema) ?? {};
  const outer = name ? [...within, name] : within;
  const some = inner.oneOf ?? inner.anyOf ?? inner.allOf;
  if (some) return make("div", {}, ...some.map((one) => shape(api, one, outer)));
  if (inner.items) return make("div", {}, "an array of", shape(api, inner.items, outer));
  const about = inner.description ? prose(inner.description) : null;
  if (!inner.properties) return make("div", {}, about, rule(inner), inner.enum ? choices(inner.enum) : null, inner.examples ? choices(inner.examples) : null);
  const rows = Object.entries(inner.properties).map(([member, value]) => {
    const isRequired = (inner.required ?? []).includes(member);
    return make("tr", {}, make("td", {}, make("code", {}, member), isRequired ? "" : " ?"), make("td", {}, shape(api, value, outer)));
  });
  return make("div", {}, about, make("table", {}, ...rows));
};

const example = (content) => (content.example === undefined ? null : make("pre", {}, JSON.stringify(content.example, null, 2)));

// Refusals have several examples. They are shown instead of the schema, which is the same for all refusals.
const examples = (content) => choices(Object.values(content.examples).map(({ value }) => JSON.stringify(value)));

const bodies = (api, contents) => Object.entries(contents ?? {}).map(([type, content]) =>
  make("div", {}, make("code", {}, type), ...(content.examples ? [examples(content)] : [content.schema ? shape(api, content.schema) : null, example(content)])));

const section = (title, ...children) => (children.length ? make("div", {}, make("h3", {}, title), ...children) : null);

const needs = (operation) => {
  const ways = (operation.security ?? []).map((all) => Object.keys(all).join(" and ") || "nothing");
  return ways.length ? [make("p", {}, ways.join(", or "))] : [];
};

const call = (api, path, method, operation) => {
  const parameters = (operation.parameters ?? []).map((parameter) => make("tr", {},
    make("td", {}, make("code", {}, parameter.name), parameter.required ? "" : " ?"),
    make("td", {}, parameter.in, prose(parameter.description ?? ""), rule(parameter.schema))));
  const responses = Object.entries(operation.responses).map(([status, given]) => {
    const response = resolved(api, given);
    const headers = Object.entries(response.headers ?? {}).map(([name, header]) =>
      make("p", {}, make("code", {}, name), `: ${header.description ?? ""}`));
    return make("tr", {}, make("td", {}, make("b", {}, status)), make("td", {}, prose(response.description), ...headers, ...bodies(api, response.content)));
  });
  const title = make("summary", {}, make("b", { className: `method ${method}` }, method.toUpperCase()), make("code", {}, path), " ",
    make("span", {}, operation.summary));
  return make("details", { id: operation.operationId }, title, make("div", {},
    operation.description ? prose(operation.description) : null,
    section("Credentials", ...needs(operation)),
    section("Parameters", ...(parameters.length ? [make("table", {}, ...parameters)] : [])),
    section(operation.requestBody?.required ? "Body" : "Body (optional)", ...bodies(api, operation.requestBody?.content)),
    section("Answers", make("table", {}, ...responses))));
};

const show = (api) => {
  document.getElementById("version").append(api.info.version);
  const schemes = Object.entries(api.components.securitySchemes).map(([name, scheme]) =>
    make("tr", {}, make("td", {}, make("code", {}, name)), make("td", {}, scheme.name ?? (scheme.type === "mutualTLS" ? "TLS" : "Authorization: Bearer …"), prose(scheme.description ?? ""))));
  document.getElementById("about").append(prose(api.info.description), section("Credentials", make("table", {}, ...schemes)));
  const main = document.getElementById("calls");
  main.replaceChildren();
  for (const tag of api.tags) {
    main.append(make("h2", {}, ...inline(tag.description)));
    for (const [path, methods] of Object.entries(api.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (!operation.tags?.includes(tag.name)) continue;
        main.append(call(api, path, method, operation));
        const link = make("a", { href: `#${operation.operationId}` }, make("b", { className: `method ${method}` }, method.toUpperCase()), path);
        document.getElementById("contents").append(make("li", {}, link));
      }
    }
  }
  open();
};

// Opens the call that the address names.
const open = () => {
  const chosen = document.getElementById(location.hash.slice(1));
  if (chosen instanceof HTMLDetailsElement) {
    chosen.open = true;
    chosen.scrollIntoView();
  }
};

addEventListener("hashchange", open);
fetch("/openapi.json")
  .then((response) => response.json())
  .then(show)
  .catch((error) => document.getElementById("calls").replaceChildren(`The document cannot be shown: ${error}`));
