"""PyJWT and Quantonium read one another's tokens.

Standard input is one JSON object: `secret` (hexadecimal), `now`, `token`, and its `claims`. The token must verify, and
must not where it should not. Each line of standard output is one JSON object with a `token` made here: `what` it is,
and `code`, with which it must be refused, or `accepted`.
"""

import json
import sys
import warnings

import jwt

given = json.load(sys.stdin)
SECRET, NOW, CLAIMS = bytes.fromhex(given["secret"]), given["now"], given["claims"]
OTHER = bytes(32)
# It finds 32 bytes short for the larger hashes, which is not what is tried here.
warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)


def verify(token, secret=SECRET, audience=CLAIMS["aud"], issuer=CLAIMS["iss"]):
    options = {"require": ["iss", "sub", "aud", "iat", "nbf", "exp", "jti"]}
    return jwt.decode(token, secret, algorithms=["HS256"], audience=audience, issuer=issuer, options=options)


def refuses(error, *args, **kwargs):
    try:
        verify(*args, **kwargs)
    except error:
        return
    raise AssertionError(f"not refused as {error.__name__}")


def make(what, code="accepted", /, secret=SECRET, algorithm="HS256", headers=None, without=(), **changed):
    claims = {name: value for name, value in (CLAIMS | changed).items() if name not in without}
    token = jwt.encode(claims, secret, algorithm=algorithm, headers=headers)
    print(json.dumps({"what": what, "code": code, "token": token}))


token = given["token"]
assert verify(token) == CLAIMS, verify(token)
assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
refuses(jwt.InvalidSignatureError, token, secret=OTHER)
refuses(jwt.InvalidSignatureError, token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB"))
refuses(jwt.InvalidAudienceError, token, audience="others")
refuses(jwt.InvalidIssuerError, token, issuer="others")

make("as issued")
make("fractional times", iat=NOW - 0.5, nbf=NOW - 0.25, exp=NOW + 60.125)
make("audience among others", aud=["others", CLAIMS["aud"]])
make("further claims", name="grün \u2603 \U0001f600", nested={"a": [1, {"b": None}]})
make("no type", headers={"typ": None})
make("type in lower case", headers={"typ": "jwt"})
make("expired within the leeway", iat=NOW - 60, nbf=NOW - 60, exp=NOW - 29)
make("begins within the leeway", iat=NOW + 30, nbf=NOW + 30)
make("no algorithm", "token_alg", secret=None, algorithm="none")
make("HS384", "token_alg", algorithm="HS384")
make("HS512", "token_alg", algorithm="HS512")
make("other type", "token_typ", headers={"typ": "at+jwt"})
make("key id in the header", "token_header", headers={"kid": CLAIMS["sub"]})
make("address of keys in the header", "token_header", headers={"jku": "https://example.com/keys"})
make("content type in the header", "token_header", headers={"cty": "JWT"})
make("unencoded payload", "token_header", headers={"b64": False, "crit": ["b64"]})
make("other secret", "token_signature", secret=OTHER)
make("other issuer", "token_issuer", iss="others")
make("other audience", "token_audience", aud="others")
make("other audiences", "token_audience", aud=["others", CLAIMS["aud"] + "x"])
make("expired", "token_expired", iat=NOW - 60, nbf=NOW - 60, exp=NOW - 30)
make("begins later", "token_not_yet", nbf=NOW + 31)
make("made later", "token_not_yet", iat=NOW + 31)
make("lives too long", "token_lifetime", exp=CLAIMS["iat"] + 86_401)
make("text as time", "token_claims", exp=str(CLAIMS["exp"]))
make("nothing as time", "token_claims", nbf=None)
make("no beginning", "token_claims", without=["nbf"])
make("no end", "token_claims", without=["exp"])
make("no scope", "token_claims", without=["scope"])
