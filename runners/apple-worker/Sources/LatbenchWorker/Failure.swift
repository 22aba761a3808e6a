/// A request that could not be met.
struct Failure: Error {
    var stage: String
    var kind = "error"
    var message: String
    var hint: String?

    init(_ stage: String, _ message: String, hint: String? = nil, kind: String = "error") {
        self.stage = stage
        self.kind = kind
        self.message = message
        self.hint = hint
    }

    /// The fields of the message `failed`, and of `failure` in a job's status.
    var fields: [(String, Json)] {
        [
            ("stage", .text(stage)), ("kind", .text(kind)), ("message", .text(message)),
            ("hint", Json(hint)), ("detail", .null),
        ]
    }
}

/// A request that is invalid.
struct Refusal: Error {
    var message: String
    var hint: String?

    init(_ message: String, hint: String? = nil) {
        self.message = message
        self.hint = hint
    }
}

/// A line that is not a message of the protocol. It ends the conversation.
struct NotAMessage: Error {
    var reason: String
}

/// Text in quotes, for messages.
func shown(_ text: String) -> String {
    "'" + text.replacing("\\", by: "\\\\").replacing("'", by: "\\'").replacing("\n", by: "\\n") + "'"
}

extension String {
    func replacing(_ part: Character, by other: String) -> String {
        reduce(into: "") { $0 += $1 == part ? other : String($1) }
    }
}
