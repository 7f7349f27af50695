// Lists the endpoints of openapi.json, each with an example of its request and its answer.

const description = await (await fetch("openapi.json")).json();
document.getElementById("introduction").textContent = description.info.description;
for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, endpoint] of Object.entries(methods)) {
    document.getElementById("endpoints").append(describe(method.toUpperCase(), path, endpoint));
  }
}

function describe(method, path, endpoint) {
  const section = element("section", "", "card");
  const heading = element("h2", "");
  heading.append(element("b", method), ` ${path}`);
  section.append(heading, element("p", endpoint.description ?? endpoint.summary));
  for (const parameter of endpoint.parameters ?? []) {
    if (parameter.in === "query") {
      section.append(element("p", `?${parameter.name}: ${parameter.description}`, "quiet"));
    }
  }
  const body = endpoint.requestBody?.content ?? {};
  if (Object.keys(body).length) {
    section.append(element("p", `Body: ${Object.keys(body).join(", ")}`, "quiet"));
  }
  addExample(section, "Request", body["application/json"]);
  const answer = endpoint.responses?.["200"];
  addExample(section, "Answer", answer?.content?.["application/json"]);
  return section;
}

function addExample(section, title, content) {
  if (!content?.example) return;
  const notes = content.schema?.description;
  if (notes) section.append(element("p", notes, "quiet"));
  section.append(element("h3", title), element("pre", JSON.stringify(content.example, null, 2)));
}

function element(kind, text, className = "") {
  const made = document.createElement(kind);
  made.className = className;
  made.textContent = text;
  return made;
}
