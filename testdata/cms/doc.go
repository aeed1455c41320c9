// Package cms holds the reader of CMS against two others: what roles/auth/cms accepts,
// smallstep/pkcs7 or OpenSSL accepts, too. The other way round means nothing: they take
// much that it must refuse.
package cms
