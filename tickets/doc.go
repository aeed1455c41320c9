// Package tickets makes and checks what one party shows another as proof.
//
//	challenge        router -> client, in INFO: "sign this"; 24 random bytes
//	handoff ticket   dispatcher -> cm -> parent: "this connection was handed
//	                 to this cm"; good for one use of the private key
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
// parent's to remember. Everything here works on fixed sizes, keeps no state,
// reads no clock, and compares secrets in constant time; it never logs one.
package tickets
