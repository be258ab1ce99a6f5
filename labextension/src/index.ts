import type {
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { INotebookTracker, type Notebook } from '@jupyterlab/notebook';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

const INSERT_CELL = 'nbfunctions:insert-cell';

const NAME = 'hello';
const MAGIC = '%%function ';
const TEMPLATE = `${MAGIC}${NAME} --timeout 10 --var GREETING=Hello
import os

def main(req, res):
    return res.json({"message": f"{os.environ['GREETING']}, {req.payload or 'world'}"})`;

/**
 * Insert the template below the active cell and edit it, its name selected, so that the first thing typed is the
 * function's own name.
 */
async function insertFunctionCell(notebook: Notebook): Promise<void> {
  const model = notebook.model;
  if (model === null) {
    return;
  }
  const index = notebook.activeCell === null ? 0 : notebook.activeCellIndex + 1;
  // One change of the document, so that one undo takes it back.
  model.sharedModel.insertCell(index, {
    cell_type: 'code',
    source: TEMPLATE,
    metadata: { trusted: true }
  });
  notebook.activeCellIndex = index;
  notebook.deselectAll();
  const cell = notebook.activeCell;
  await notebook.scrollToItem(index, 'smart');
  await cell?.ready;
  notebook.activate();
  notebook.mode = 'edit';
  cell?.editor?.setSelection({
    start: { line: 0, column: MAGIC.length },
    end: { line: 0, column: MAGIC.length + NAME.length }
  });
}

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'nbfunctions:plugin',
  description: 'Inserts cells that become backend functions.',
  autoStart: true,
  // All optional: whatever front end lacks one of them still starts.
  optional: [INotebookTracker, ICommandPalette, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    notebooks: INotebookTracker | null,
    palette: ICommandPalette | null,
    translator: ITranslator | null
  ) => {
    if (notebooks === null) {
      return;
    }
    const trans = (translator ?? nullTranslator).load('nbfunctions');
    const current = (): Notebook | null => {
      const panel = notebooks.currentWidget;
      return panel !== null && panel === app.shell.currentWidget
        ? panel.content
        : null;
    };

    app.commands.addCommand(INSERT_CELL, {
      label: trans.__('Insert a Function Cell'),
      caption: trans.__('Insert a cell that becomes a backend function'),
      isEnabled: () => current() !== null,
      execute: async () => {
        const notebook = current();
        if (notebook !== null) {
          await insertFunctionCell(notebook);
        }
      }
    });
    const refresh = () => app.commands.notifyCommandChanged(INSERT_CELL);
    notebooks.currentChanged.connect(refresh);
    app.shell.currentChanged?.connect(refresh);
    palette?.addItem({ command: INSERT_CELL, category: trans.__('Functions') });
  }
};

export default plugin;
