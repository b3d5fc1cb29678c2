"""Makes docs/API.md: the chapters of docs/openapi/manual.md, and in each what the description says of its route.

What people have to be told stands in the chapters, by hand: rules, reasons, traps. What can be listed is taken from the description: which
route needs what, its parameters, members, forms and codes. So neither can say what the other does not.
"""

import re

METHODS = ("get", "post", "patch", "delete")
HEAD = "<!-- Made by scripts/openapi from docs/openapi/; change it there. -->\n\n"
HEADING = re.compile(r"^### `([A-Z]+ \S+)`$", re.MULTILINE)
# The schema that stands where a member may be `null`, a batch, or one of several.
CHOICES = ("oneOf", "anyOf", "allOf")


class Mistake(Exception):
    """A chapter without a route, or a route without a chapter."""


class Manual:
    def __init__(self, document):
        self.document = document
        self.operations = {
            f"{method.upper()} {path}": item[method] | {"parameters": item.get("parameters", []) + item[method].get("parameters", [])}
            for path, item in document["paths"].items()
            for method in METHODS
            if method in item
        }
        told = [self.codes(operation) for operation in self.operations.values()]
        self.everywhere = set.intersection(*told)

    def resolved(self, value):
        while "$ref" in value:
            found = self.document
            for step in value["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            value = found
        return value

    def listed(self, schema):
        """The codes that a schema of `code` lists."""
        schema = self.resolved(schema)
        found = set(schema.get("enum", []))
        for choice in schema.get("anyOf", []):
            found |= self.listed(choice)
        return found

    def codes(self, operation):
        found = set()
        for reply in operation["responses"].values():
            problem = self.resolved(reply).get("content", {}).get("application/problem+json")
            if problem:
                found |= self.listed(problem["schema"]["properties"]["code"])
        return found

    def members(self, schema):
        """The members of a JSON body, each with whether it is required."""
        schema = self.resolved(schema)
        found = {name: name in schema.get("required", []) for name in schema.get("properties", {})}
        for choice in CHOICES:
            for one in schema.get(choice, []):
                for name, required in self.members(one).items():
                    found[name] = found.get(name, False) or (required and choice == "allOf")
        return found

    def facts(self, operation):
        """What the description says of a route, as rows of a table."""
        event = f"; leaves `{operation['x-event']}` in the audit log" if "x-event" in operation else ""
        needs = {"none": "no credential", "any": "any credential"}.get(operation["x-permission"], f"`{operation['x-permission']}`")
        yield "needs", needs + event
        for place, word in (("path", "path"), ("query", "query"), ("header", "fields")):
            names = [self.named(one["name"], one.get("required")) for one in map(self.resolved, operation["parameters"]) if one["in"] == place]
            if names:
                yield word, ", ".join(names)
        content = operation.get("requestBody", {}).get("content", {})
        forms = [kind for kind in content if not kind.endswith("json")]
        for kind in content:
            if kind.endswith("json"):
                members = self.members(content[kind]["schema"])
                told = ", ".join(self.named(name, required) for name, required in members.items())
                yield f"`{kind}`", told or "no members"
        if forms:
            yield "other bodies", ", ".join(f"`{kind}`" for kind in forms)
        yield "replies", "; ".join(self.reply(status, self.resolved(reply)) for status, reply in operation["responses"].items() if status < "400")
        codes = sorted(self.codes(operation) - self.everywhere)
        problems = self.document["x-problems"]
        by_status = {}
        for code in codes:
            by_status.setdefault(problems[code]["status"], []).append(f"`{code}`")
        refusals = "; ".join(f"{status} {', '.join(of)}" for status, of in sorted(by_status.items()))
        if refusals:
            yield "refusals", refusals

    @staticmethod
    def named(name, required):
        return f"`{name}` (required)" if required else f"`{name}`"

    @staticmethod
    def reply(status, reply):
        kinds = ", ".join(f"`{kind}`" for kind in reply.get("content", {}))
        return f"{status} {kinds}".strip()

    def table(self, name):
        rows = "".join(f"| {what} | {told} |\n" for what, told in self.facts(self.operations[name]))
        return "| described as | `" + self.operations[name]["operationId"] + "` |\n|---|---|\n" + rows

    def routes(self):
        """Every route in the order of the chapters, with what it is for."""
        rows = ["| route | does | needs |", "|---|---|---|"]
        for name in HEADING.findall(self.text):
            operation = self.operations[name]
            anchor = re.sub(r"[^a-z0-9 _-]", "", name.lower()).replace(" ", "-")
            needs = {"none": "", "any": "any credential"}.get(operation["x-permission"], f"`{operation['x-permission']}`")
            rows.append(f"| [`{name}`](#{anchor}) | {operation['summary']} | {needs} |")
        return "\n".join(rows)

    def errors(self):
        rows = ["| code | status | when |", "|---|---|---|"]
        problems = self.document["x-problems"]
        rows += [f"| `{code}` | {problem['status']} | {problem['when']} |" for code, problem in problems.items()]
        return "\n".join(rows)

    def made(self, text):
        self.text = text
        chapters = HEADING.findall(text)
        if sorted(chapters) != sorted(self.operations):
            raise Mistake(f"a chapter or a route is missing, or stands twice: {sorted(set(chapters) ^ set(self.operations))}")
        begin = next(HEADING.finditer(text)).start()
        # A chapter ends where the next heading begins.
        parts = re.split(r"(?m)^(?=#{2,3} )", text[begin:])
        out = text[:begin].rstrip("\n") + "\n\n"
        for part in parts:
            heading = HEADING.match(part)
            out += part.rstrip("\n") + "\n\n" + (self.table(heading[1]) + "\n" if heading else "")
        for marker, give in (("routes", self.routes), ("everywhere", self.always), ("errors", self.errors)):
            place = f"<!-- {marker} -->"
            if out.count(place) != 1:
                raise Mistake(f"{place} must stand once in docs/openapi/manual.md")
            out = out.replace(place, give())
        return HEAD + out.rstrip("\n") + "\n"

    def always(self):
        return ", ".join(f"`{code}`" for code in sorted(self.everywhere))
