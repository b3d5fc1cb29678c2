//! The status codes that are sent, with their reason phrases (RFC 9110, section 15).
//!
//! Owns [`Status`]. Invariant: a status line is a constant; nothing is formatted when a reply is written.

/// Declares the codes once; everything else about them follows from the row.
macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $code:literal $reason:literal;)*) => {
        /// A status code of a reply.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Status {
            $($(#[$doc])* $name = $code,)*
        }

        impl Status {
            /// Every status, in the order of the codes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its place among [`Self::ALL`].
            #[must_use]
            pub const fn place(self) -> usize {
                enum Place { $($name,)* }
                match self { $(Self::$name => Place::$name as usize,)* }
            }

            /// The reason phrase.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }

            /// The whole status line with its line end.
            #[must_use]
            pub const fn line(self) -> &'static [u8] {
                match self {
                    $(Self::$name => concat!("HTTP/1.1 ", $code, " ", $reason, "\r\n").as_bytes(),)*
                }
            }
        }
    };
}

statuses! {
    /// The client may send its body.
    Continue = 100 "Continue";
    /// Done.
    Ok = 200 "OK";
    /// Something was made.
    Created = 201 "Created";
    /// Taken note of.
    Accepted = 202 "Accepted";
    /// Done, and there is nothing to say.
    NoContent = 204 "No Content";
    /// Done in part: the body tells of each.
    MultiStatus = 207 "Multi-Status";
    /// The client has it already.
    NotModified = 304 "Not Modified";
    /// It is there for good, and so the same request is to be made again, with its method.
    PermanentRedirect = 308 "Permanent Redirect";
    /// The request cannot be understood.
    BadRequest = 400 "Bad Request";
    /// No credential, or not a valid one.
    Unauthorized = 401 "Unauthorized";
    /// The credential does not allow it.
    Forbidden = 403 "Forbidden";
    /// There is no such thing.
    NotFound = 404 "Not Found";
    /// The thing exists, the method does not apply to it.
    MethodNotAllowed = 405 "Method Not Allowed";
    /// None of the forms the client accepts can be made.
    NotAcceptable = 406 "Not Acceptable";
    /// The client was too slow.
    RequestTimeout = 408 "Request Timeout";
    /// The state of the thing does not allow it.
    Conflict = 409 "Conflict";
    /// It was there and is no more.
    Gone = 410 "Gone";
    /// The body must announce its length.
    LengthRequired = 411 "Length Required";
    /// The body is larger than the route takes.
    ContentTooLarge = 413 "Content Too Large";
    /// The request target is longer than any route's.
    UriTooLong = 414 "URI Too Long";
    /// The route does not take this type of body.
    UnsupportedMediaType = 415 "Unsupported Media Type";
    /// An expectation other than `100-continue`.
    ExpectationFailed = 417 "Expectation Failed";
    /// The authority is not one of this server's.
    MisdirectedRequest = 421 "Misdirected Request";
    /// Well formed, but not to be acted on.
    UnprocessableContent = 422 "Unprocessable Content";
    /// Over a rate limit.
    TooManyRequests = 429 "Too Many Requests";
    /// The head is larger than is read.
    HeaderFieldsTooLarge = 431 "Request Header Fields Too Large";
    /// A fault of the server.
    InternalServerError = 500 "Internal Server Error";
    /// The method or a transfer coding is not known here.
    NotImplemented = 501 "Not Implemented";
    /// Not now.
    ServiceUnavailable = 503 "Service Unavailable";
    /// A version of HTTP that is not spoken here.
    VersionNotSupported = 505 "HTTP Version Not Supported";
    /// The server has no room for what would have to be kept.
    InsufficientStorage = 507 "Insufficient Storage";
}

impl Status {
    /// The code as a number.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The status of this code, if it is one that is sent.
    #[must_use]
    pub fn of_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|status| status.code() == code)
    }

    /// Whether replies of this status have neither body nor `Content-Length` (RFC 9110, section 8.6;
    /// 304 may say a length, and the server does not).
    #[must_use]
    pub const fn is_bodiless(self) -> bool {
        matches!(self, Self::Continue | Self::NoContent | Self::NotModified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines_show_code_and_reason() {
        for status in Status::ALL {
            let line = format!("HTTP/1.1 {} {}\r\n", status.code(), status.reason());
            assert_eq!(status.line(), line.as_bytes());
        }
        assert!(Status::ALL.is_sorted_by_key(|status| status.code()));
        for (place, status) in Status::ALL.iter().enumerate() {
            assert_eq!(status.place(), place);
        }
    }
}
