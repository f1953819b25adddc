// From go.bytecodealliance.org/pkg, see LICENSE.

package wit_types

type Unit struct{}
