// A dashboard as Grafana's schema has it, with the kinds of panel that we use and the queries of its Prometheus data source, which the
// schema leaves open. `monitoring/grafana/check` compiles each dashboard as one of these.

import type { AnnotationQuery, Dashboard, DataQuery, FieldConfigSource, GraphFieldConfig, Panel, RowPanel } from '@grafana/schema';
import type { Options as StatOptions } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type { Options as TimeSeriesOptions } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** As JSON: an enum of strings is written as its value. */
type Json<T> = T extends string
  ? `${T}`
  : T extends number | boolean | null | undefined
    ? T
    : { [Key in keyof T]: Json<T[Key]> };

type Query = DataQuery & { editorMode: 'code'; expr: string; legendFormat: string; range: true };

interface Shown<Kind extends string, Options, Custom> extends Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'> {
  type: Kind;
  options: Options;
  fieldConfig: Omit<FieldConfigSource, 'defaults'> & {
    defaults: Omit<FieldConfigSource['defaults'], 'custom'> & { custom: Custom };
  };
  targets: Query[];
}

type Row = Omit<RowPanel, 'panels'> & { panels: [] };
type Charts = Shown<'timeseries', TimeSeriesOptions, GraphFieldConfig> | Shown<'stat', StatOptions, Record<string, never>>;

export type Checked = Json<
  Omit<Dashboard, 'panels' | 'annotations'> & {
    panels: Array<Row | Charts>;
    annotations: { list: Array<AnnotationQuery<DataQuery & { expr: string }> & { titleFormat: string }> };
  }
>;
