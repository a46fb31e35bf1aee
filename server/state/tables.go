package state

import (
	"fmt"
	"slices"

	"github.com/stackforge/magnum/structs"
)

// Table describes a kind of row for the store. The row's type decides which indexes it is
// in: structs.Named rows are found by name, and structs.Workload rows by host and bay.
type Table struct {
	Name   structs.Table
	Code   byte // in entries, snapshots and hashes; 1..maxTables-1, never reused for another table
	Schema int  // the first schema with the table; 0 means structs.LeastSchema
	New    func() structs.Row
	Kind   string // of the rows in errors; "" for rows that no caller names
	// Operators says that rows belong to operators, not to a project: all callers find them
	// by the same name.
	Operators bool

	// Bay returns the ID of the row's bay; nil for rows without one. Workloads don't need
	// it.
	Bay func(row structs.Row) string
	// Shared reports whether all projects may see the row; nil means that none is shared.
	Shared func(row structs.Row) bool
	// Unsettled reports whether a step of the leader has to look at the row; nil means
	// never. Workloads don't need it: they are unsettled while they wait for a host.
	Unsettled func(row structs.Row) bool

	kind structs.WorkloadKind // "" for rows that aren't workloads
	keys [numIndexes]keyOf    // nil if the table has no such index
}

// tables lists all tables in the order in which snapshots write them: specs come before
// their workloads.
var tables = registered(
	&Table{Name: structs.TableCluster, Code: 1, New: newRow[structs.Cluster]},
	&Table{Name: structs.TableBayModels, Code: 2, New: newRow[structs.BayModel], Kind: structs.KindBayModel},
	&Table{Name: structs.TableBays, Code: 3, New: newRow[structs.Bay], Kind: structs.KindBay,
		Shared:    func(row structs.Row) bool { return row.(*structs.Bay).Shared },
		Unsettled: func(row structs.Row) bool { return row.(*structs.Bay).Status == structs.BayDeleting }},
	&Table{Name: structs.TableNodes, Code: 4, New: newRow[structs.Node], Kind: structs.KindNode},
	&Table{Name: structs.TableHosts, Code: 5, New: newRow[structs.Host], Kind: structs.KindHost, Operators: true,
		Bay:       func(row structs.Row) string { return row.(*structs.Host).BayID },
		Unsettled: func(row structs.Row) bool { return unsettledHost(row.(*structs.Host)) }},
	&Table{Name: structs.TableSpecs, Code: 10, Schema: structs.SchemaSpecs, New: newRow[structs.StoredSpec]},
	&Table{Name: structs.TableContainers, Code: 6, New: newRow[structs.Container], Kind: structs.KindContainer},
	&Table{Name: structs.TableIdempotency, Code: 7, New: newRow[structs.IdempotencyKey]},
	&Table{Name: structs.TableActions, Code: 8, New: newRow[structs.Actions]},
	&Table{Name: structs.TableTokens, Code: 9, New: newRow[structs.Token], Kind: structs.KindToken, Operators: true},
	&Table{Name: structs.TableLineages, Code: 11, Schema: structs.SchemaLineages, New: newRow[structs.Lineages]},
	&Table{Name: structs.TableQuarantine, Code: 12, Schema: structs.SchemaLineages, New: newRow[structs.Quarantine]},
	&Table{Name: structs.TablePods, Code: 13, Schema: structs.SchemaPods, New: newRow[structs.Pod], Kind: structs.KindPod},
	&Table{Name: structs.TableManifests, Code: 14, Schema: structs.SchemaPods, New: newRow[structs.Manifest]},
	&Table{Name: structs.TableRCs, Code: 15, Schema: structs.SchemaPods, New: newRow[structs.RC], Kind: structs.KindRC,
		Bay:       func(row structs.Row) string { return row.(*structs.RC).BayID },
		Unsettled: func(row structs.Row) bool { return row.(*structs.RC).Observed.OverQuota }},
	&Table{Name: structs.TableServices, Code: 16, Schema: structs.SchemaPods, New: newRow[structs.Service], Kind: structs.KindService,
		Bay: func(row structs.Row) string { return row.(*structs.Service).BayID }},
	&Table{Name: structs.TableEndpoints, Code: 17, Schema: structs.SchemaPods, New: newRow[structs.Endpoints],
		Bay: func(row structs.Row) string { return row.(*structs.Endpoints).BayID }},
	&Table{Name: structs.TableObjects, Code: 18, Schema: structs.SchemaKubernetes, New: newRow[structs.Object]},
	&Table{Name: structs.TableQuotas, Code: 19, Schema: structs.SchemaQuotas, New: newRow[structs.Quota], Kind: structs.KindQuota,
		Operators: true},
)

// unsettledHost reports whether the host is one of UnsettledHosts.
func unsettledHost(h *structs.Host) bool {
	return h.State == structs.HostLost || h.Draining || h.DrainForce
}

// maxTables is one more than the highest possible table code.
const maxTables = 32

func newRow[R any, P interface {
	*R
	structs.Row
}]() structs.Row {
	return P(new(R))
}

var (
	tableByName = make(map[structs.Table]*Table)
	tableByKind = make(map[string]*Table)
	tableByCode [maxTables]*Table
	placed      []*Table // the tables of workloads, in the order of tables
	placedNames []structs.Table
)

func registered(list ...*Table) []*Table {
	for _, t := range list {
		t.register()
	}
	return list
}

// Register adds a table after all others. Call it in an init function, before there is a
// store. It panics if the name or the code is in use.
func Register(t Table) {
	t.register()
	tables = append(tables, &t)
}

func (t *Table) register() {
	if tableByName[t.Name] != nil || t.Code == 0 || t.Code >= maxTables || tableByCode[t.Code] != nil {
		panic(fmt.Sprintf("state: table %s is registered twice, or its code %d is in use or out of range", t.Name, t.Code))
	}
	if w, ok := t.New().(structs.Workload); ok {
		t.kind = w.Ref().Kind
		placed, placedNames = append(placed, t), append(placedNames, t.Name)
	}
	t.keys = t.indexes()
	tableByName[t.Name], tableByCode[t.Code] = t, t
	if t.Kind != "" {
		tableByKind[t.Kind] = t
	}
}

// Tables returns the names of all tables in the order in which snapshots write them.
func Tables() []structs.Table {
	names := make([]structs.Table, 0, len(tables))
	for _, t := range tables {
		names = append(names, t.Name)
	}
	return names
}

// NewRow returns an empty row of the table, or nil if there is no such table.
func NewRow(table structs.Table) structs.Row {
	if t := tableByName[table]; t != nil {
		return t.New()
	}
	return nil
}

// TableOf returns the table of a kind of workload, "" if there is no such kind.
func TableOf(kind structs.WorkloadKind) structs.Table {
	if i := slices.IndexFunc(placed, func(t *Table) bool { return t.kind == kind }); i >= 0 {
		return placed[i].Name
	}
	return ""
}

// TableOfKind returns the table of the rows that callers call kind, and whether they belong
// to operators; "" if there is none.
func TableOfKind(kind string) (table structs.Table, operators bool) {
	if t := tableByKind[kind]; t != nil {
		return t.Name, t.Operators
	}
	return "", false
}

// KindOf returns the callers' word for the rows of a table, "" if they don't name them.
func KindOf(table structs.Table) string {
	if t := tableByName[table]; t != nil {
		return t.Kind
	}
	return ""
}

// PlacedTables returns the tables of workloads. The slice is shared: never write to it.
func PlacedTables() []structs.Table { return placedNames }

// codeOf returns the code of a table, 0 if there is no such table.
func codeOf(table structs.Table) byte {
	if t := tableByName[table]; t != nil {
		return t.Code
	}
	return 0
}

// isPlaced reports whether the table holds workloads.
func isPlaced(table structs.Table) bool {
	t := tableByName[table]
	return t != nil && t.kind != ""
}

// tableOf returns the table with the code.
func tableOf(code byte) (table structs.Table, known bool) {
	if int(code) >= len(tableByCode) || tableByCode[code] == nil {
		return "", false
	}
	return tableByCode[code].Name, true
}

// leastSchema returns the first schema with the table.
func leastSchema(table structs.Table) int {
	if t := tableByName[table]; t != nil && t.Schema != 0 {
		return t.Schema
	}
	return structs.LeastSchema
}
