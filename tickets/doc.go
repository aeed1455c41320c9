// Package tickets makes and checks what one party shows another as proof.
//
//	challenge        router -> client, in INFO: "sign this"; 24 random bytes. With
//	                 the environment it is what a client with a certificate signs
//	handoff ticket   dispatcher -> cm -> parent: "this connection was handed
//	                 to this cm"; good for one use of the private key
//	transfer ticket  environment -> client -> another environment: "this user may
//	                 log in to you on this connection"; good for one login
//
//	   dispatcher --- connection, ticket ---> cm
//	       |                                   |
//	  handoff key                       ticket, request
//	       |                                   |
//	       +------------- parent <-------------+
//	                      Verify
//
// A handoff ticket is a MAC, so whoever can check it can make it: the key stays
// with the dispatcher and the parent. Which tickets have been used is the
// parent's to remember.
//
// A transfer ticket is signed: a JWS in compact form, EdDSA or ES256, that says
//
//	{"nonce":"...","iss":"orga","sub":"alice","org":"ORGA","aud":"orgb",
//	 "cid":77,"iat":1700000000,"exp":1700000060,"jti":"..."}
//
// with B's challenge as nonce and the UID of the session at A that has asked as cid.
// There is exactly one way to write it, in which it is made and read: header, order,
// escapes and base 64, so that no two readers can see two things in it. Which tickets
// have been seen is B's auth's to remember.
//
// Everything here works on bounded sizes, keeps no state, reads no clock, and compares
// secrets in constant time; it never logs one.
//
// Files: challenge.go, handoff.go, transfer.go, claims.go (its JSON), jws.go (its form
// and keys).
package tickets
