package lab

import (
	"strconv"

	"postern/internal/eas"
)

// inboxID is the ServerId of the one folder that holds messages.
const inboxID = "5"

// hierarchyKey is the SyncKey of the folder hierarchy, which never changes.
const hierarchyKey = "1"

// folder is one folder of every mailbox; the types are those of MS-ASCMD, section 2.2.3, Type.
type folder struct{ id, name, kind, class string }

func folders() []folder {
	return []folder{
		{"1", "Calendar", "8", "Calendar"},
		{"2", "Contacts", "9", "Contacts"},
		{"3", "Deleted Items", "4", "Email"},
		{"4", "Drafts", "3", "Email"},
		{inboxID, "Inbox", "2", "Email"},
		{"6", "Notes", "10", "Notes"},
		{"7", "Outbox", "6", "Email"},
		{"8", "Sent Items", "5", "Email"},
		{"9", "Tasks", "7", "Tasks"},
	}
}

// folderByID finds a folder; ok is false where there is none.
func folderByID(id string) (f folder, ok bool) {
	for _, f := range folders() {
		if f.id == id {
			return f, true
		}
	}
	return folder{}, false
}

// folderSync answers FolderSync (MS-ASCMD, section 2.2.1.5): everything to key 0, nothing new to the current key, and Status 9
// to any other, after which the client starts again.
func (e *Exchange) folderSync(c *call) answer {
	key := c.doc.Value("SyncKey")
	enc := eas.NewEncoder().Start(eas.PageFolderHierarchy, "FolderSync")
	if key == "" {
		return document(enc.Element(eas.PageFolderHierarchy, "Status", "10").End())
	}
	e.mu.Lock()
	if key == "0" {
		c.partner.folders = true
	}
	known := c.partner.folders
	e.mu.Unlock()
	if key != "0" && (key != hierarchyKey || !known) {
		return document(enc.Element(eas.PageFolderHierarchy, "Status", "9").End())
	}
	var added []folder
	if key == "0" {
		added = folders()
	}
	enc.Element(eas.PageFolderHierarchy, "Status", "1").Element(eas.PageFolderHierarchy, "SyncKey", hierarchyKey).
		Start(eas.PageFolderHierarchy, "Changes").Element(eas.PageFolderHierarchy, "Count", itoa(len(added)))
	for _, f := range added {
		enc.Start(eas.PageFolderHierarchy, "Add").
			Element(eas.PageFolderHierarchy, "ServerId", f.id).
			Element(eas.PageFolderHierarchy, "ParentId", "0").
			Element(eas.PageFolderHierarchy, "DisplayName", f.name).
			Element(eas.PageFolderHierarchy, "Type", f.kind).
			End()
	}
	return document(enc.End().End())
}

// estimate answers GetItemEstimate (MS-ASCMD, section 2.2.1.9).
func (e *Exchange) estimate(c *call) answer {
	e.mu.Lock()
	defer e.mu.Unlock()
	enc := eas.NewEncoder().Start(eas.PageGetItemEstimate, "GetItemEstimate")
	for _, asked := range c.doc.Find("Collections").All("Collection") {
		id := asked.Value("CollectionId")
		state := c.partner.collections[id]
		enc.Start(eas.PageGetItemEstimate, "Response")
		switch _, ok := folderByID(id); {
		case !ok:
			enc.Element(eas.PageGetItemEstimate, "Status", "2") // no such collection
		case state == nil:
			enc.Element(eas.PageGetItemEstimate, "Status", "3") // not primed by a Sync
		case asked.Value("SyncKey") != itoa(state.key):
			enc.Element(eas.PageGetItemEstimate, "Status", "4") // wrong key
		default:
			n := 0
			if id == inboxID {
				messages, _ := c.box.after(state.at, len(c.box.inbox))
				n = len(messages)
			}
			enc.Element(eas.PageGetItemEstimate, "Status", "1").Start(eas.PageGetItemEstimate, "Collection").
				Element(eas.PageGetItemEstimate, "CollectionId", id).
				Element(eas.PageGetItemEstimate, "Estimate", itoa(n)).End()
		}
		enc.End()
	}
	return document(enc.End())
}

func itoa(n int) string { return strconv.Itoa(n) }
